"""The events of battles and votes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "raters",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.CheckConstraint("source IN ('human', 'simulated')", name="rater_source"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "battles",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("rater", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("gold_side", sa.String(length=8), nullable=True),
        sa.Column("repeat_of", sa.String(length=40), nullable=True),
        sa.Column("left", sa.Text(), nullable=False),
        sa.Column("right", sa.Text(), nullable=False),
        sa.Column("left_revision", sa.Text(), nullable=True),
        sa.Column("right_revision", sa.Text(), nullable=True),
        sa.Column("sampling", sa.JSON(), nullable=False),
        sa.Column("propensity", sa.Double(), nullable=False),
        sa.Column("choice", sa.JSON(), nullable=False),
        sa.Column("consent", sa.String(length=16), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("address", sa.String(length=40), nullable=True),
        sa.Column("program", sa.Text(), nullable=True),
        sa.CheckConstraint("(kind = 'gold') = (gold_side IS NOT NULL)", name="battle_gold"),
        sa.CheckConstraint("(kind = 'repeat') = (repeat_of IS NOT NULL)", name="battle_repeat"),
        sa.CheckConstraint("kind IN ('ordinary', 'gold', 'repeat')", name="battle_kind"),
        sa.CheckConstraint("source IN ('human', 'simulated')", name="battle_source"),
        sa.CheckConstraint("propensity > 0 AND propensity <= 1", name="battle_propensity"),
        sa.ForeignKeyConstraint(
            ["rater"],
            ["raters.id"],
        ),
        sa.ForeignKeyConstraint(
            ["repeat_of"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("repeat_of", name="battle_repeated_once"),
    )
    op.create_index("battles_by_address", "battles", ["address", "at"], unique=False)
    op.create_index(op.f("ix_battles_at"), "battles", ["at"], unique=False)
    op.create_index(op.f("ix_battles_rater"), "battles", ["rater"], unique=False)
    op.create_table(
        "consents",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("rater", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.CheckConstraint("level IN ('nothing', 'research', 'publish')", name="consent_level"),
        sa.ForeignKeyConstraint(
            ["rater"],
            ["raters.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_consents_rater"), "consents", ["rater"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("rater", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rater"],
            ["raters.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_erasures_rater"), "erasures", ["rater"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.CheckConstraint("side IN ('left', 'right')", name="delivery_side"),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle", "number", "side", name="delivery_once"),
    )
    op.create_index(op.f("ix_deliveries_battle"), "deliveries", ["battle"], unique=False)
    op.create_table(
        "erased_battles",
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("erasure", sa.String(length=40), nullable=True),
        sa.CheckConstraint("cause IN ('rater', 'consent')", name="erased_cause"),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.ForeignKeyConstraint(
            ["erasure"],
            ["erasures.id"],
        ),
        sa.PrimaryKeyConstraint("battle"),
    )
    op.create_table(
        "flags",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=True),
        sa.Column("rater", sa.String(length=40), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.CheckConstraint("state IN ('raised', 'cleared', 'unavailable')", name="flag_state"),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.ForeignKeyConstraint(
            ["rater"],
            ["raters.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_flags_battle"), "flags", ["battle"], unique=False)
    op.create_index(op.f("ix_flags_rater"), "flags", ["rater"], unique=False)
    op.create_table(
        "playbacks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("end", sa.Double(), nullable=False),
        sa.CheckConstraint("side IN ('left', 'right')", name="playback_side"),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_playbacks_battle"), "playbacks", ["battle"], unique=False)
    op.create_table(
        "releases",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle", "number", name="release_once"),
    )
    op.create_index(op.f("ix_releases_battle"), "releases", ["battle"], unique=False)
    op.create_table(
        "replies",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("tokens", sa.JSON(), nullable=True),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("audio", sa.String(length=64), nullable=True),
        sa.Column("presented", sa.String(length=64), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("file_seconds", sa.Double(), nullable=False),
        sa.Column("measures", sa.JSON(), nullable=False),
        sa.Column("equalised", sa.JSON(), nullable=False),
        sa.CheckConstraint("side IN ('left', 'right')", name="reply_side"),
        sa.CheckConstraint("seconds > 0", name="reply_seconds"),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle", "number", "side", name="reply_once"),
    )
    op.create_index(op.f("ix_replies_audio"), "replies", ["audio"], unique=False)
    op.create_index(op.f("ix_replies_battle"), "replies", ["battle"], unique=False)
    op.create_index(op.f("ix_replies_presented"), "replies", ["presented"], unique=False)
    op.create_table(
        "reveals",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle"),
    )
    op.create_table(
        "turns",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("typed", sa.Text(), nullable=True),
        sa.Column("heard", sa.Text(), nullable=True),
        sa.Column("audio", sa.String(length=64), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle", "number", name="turn_once"),
    )
    op.create_index(op.f("ix_turns_audio"), "turns", ["audio"], unique=False)
    op.create_index(op.f("ix_turns_battle"), "turns", ["battle"], unique=False)
    op.create_table(
        "voids",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("side", sa.String(length=8), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle"),
    )
    op.create_table(
        "votes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("battle", sa.String(length=40), nullable=False),
        sa.Column("ballot", sa.Integer(), nullable=False),
        sa.Column("rater", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("strength", sa.Integer(), nullable=False),
        sa.Column("helpfulness", sa.Integer(), nullable=True),
        sa.Column("naturalness", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(outcome = 'left' AND strength > 0) OR (outcome = 'right' AND strength < 0)"
            " OR (outcome IN ('tie', 'both_bad') AND strength = 0)",
            name="vote_outcome",
        ),
        sa.CheckConstraint("helpfulness BETWEEN -1 AND 1", name="vote_helpfulness"),
        sa.CheckConstraint("naturalness BETWEEN -1 AND 1", name="vote_naturalness"),
        sa.CheckConstraint("strength BETWEEN -3 AND 3", name="vote_strength"),
        sa.ForeignKeyConstraint(
            ["battle"],
            ["battles.id"],
        ),
        sa.ForeignKeyConstraint(
            ["rater"],
            ["raters.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("battle", "ballot", name="vote_once"),
    )
    op.create_index(op.f("ix_votes_at"), "votes", ["at"], unique=False)
    op.create_index(op.f("ix_votes_battle"), "votes", ["battle"], unique=False)
    op.create_index(op.f("ix_votes_rater"), "votes", ["rater"], unique=False)
    op.create_table(
        "retractions",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("vote", sa.String(length=40), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.CheckConstraint("kind IN ('undo', 'retract')", name="retraction_kind"),
        sa.ForeignKeyConstraint(
            ["vote"],
            ["votes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("vote"),
    )
    op.create_table(
        "vote_details",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("vote", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("helpfulness", sa.Integer(), nullable=True),
        sa.Column("naturalness", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.CheckConstraint("helpfulness BETWEEN -1 AND 1", name="detail_helpfulness"),
        sa.CheckConstraint("naturalness BETWEEN -1 AND 1", name="detail_naturalness"),
        sa.ForeignKeyConstraint(
            ["vote"],
            ["votes.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("vote", "number", name="detail_once"),
    )
    op.create_index(op.f("ix_vote_details_vote"), "vote_details", ["vote"], unique=False)
