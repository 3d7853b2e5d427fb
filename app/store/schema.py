"""The events, one table a kind. Rows are added, never changed; erasing a rater blanks contents and keeps the row.

``at`` is server time in seconds since 1970. ``number`` counts a battle's user turns from 0. ``side`` is left or right,
as it was presented; positive strengths say that left is better.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint, Double, ForeignKey, Index, String, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Words(TypeDecorator[str]):
    """Text from outside: what a database cannot hold (NUL, half surrogate pairs) becomes a replacement sign."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else storable(value)


def storable(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")


class Base(DeclarativeBase):
    type_annotation_map = {float: Double, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


def _key() -> Mapped[str]:
    return mapped_column(String(40), primary_key=True)


def _battle() -> Mapped[str]:
    return mapped_column(String(40), ForeignKey("battles.id"), index=True)


_SIDE = "side IN ('left', 'right')"


class Rater(Base):
    """Seen for the first time. ``source``: human or simulated."""

    __tablename__ = "raters"
    id: Mapped[str] = _key()
    at: Mapped[float]
    source: Mapped[str] = mapped_column(String(16))
    __table_args__ = (CheckConstraint("source IN ('human', 'simulated')", name="rater_source"),)


class Consent(Base):
    """What a rater allowed from then on."""

    __tablename__ = "consents"
    id: Mapped[str] = _key()
    rater: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    at: Mapped[float]
    level: Mapped[str] = mapped_column(String(16))
    __table_args__ = (CheckConstraint("level IN ('nothing', 'research', 'publish')", name="consent_level"),)


class BattleRow(Base):
    """Battle created: everything that was decided before anything was shown."""

    __tablename__ = "battles"
    id: Mapped[str] = _key()
    at: Mapped[float] = mapped_column(index=True)
    rater: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    source: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(16))
    gold_side: Mapped[str | None] = mapped_column(String(8))
    repeat_of: Mapped[str | None] = mapped_column(ForeignKey("battles.id"))
    left: Mapped[str] = mapped_column(Words)
    right: Mapped[str] = mapped_column(Words)
    left_revision: Mapped[str | None] = mapped_column(Words)
    right_revision: Mapped[str | None] = mapped_column(Words)
    sampling: Mapped[dict[str, Any]]
    """Settings a side: {"left": {...}, "right": {...}}; the seed of turn n is the seed here plus n."""
    propensity: Mapped[float]
    choice: Mapped[dict[str, Any]]
    """Why this pair: the rule, the number of pairs there were."""
    consent: Mapped[str] = mapped_column(String(16))
    category: Mapped[str] = mapped_column(Words)
    language: Mapped[str] = mapped_column(Words)
    address: Mapped[str | None] = mapped_column(String(40))
    program: Mapped[str | None] = mapped_column(Words)
    """The program's revision."""
    __table_args__ = (
        CheckConstraint("source IN ('human', 'simulated')", name="battle_source"),
        CheckConstraint("kind IN ('ordinary', 'gold', 'repeat')", name="battle_kind"),
        CheckConstraint("(kind = 'gold') = (gold_side IS NOT NULL)", name="battle_gold"),
        CheckConstraint("(kind = 'repeat') = (repeat_of IS NOT NULL)", name="battle_repeat"),
        CheckConstraint("propensity > 0 AND propensity <= 1", name="battle_propensity"),
        Index("battles_by_address", "address", "at"),
        UniqueConstraint("repeat_of", name="battle_repeated_once"),
    )


class TurnRow(Base):
    """The user's turn: ``text`` is what the model was given when it was typed, ``audio`` when it was spoken."""

    __tablename__ = "turns"
    id: Mapped[str] = _key()
    battle: Mapped[str] = _battle()
    number: Mapped[int]
    at: Mapped[float]
    text: Mapped[str | None] = mapped_column(Words)
    typed: Mapped[str | None] = mapped_column(Words)
    heard: Mapped[str | None] = mapped_column(Words)
    audio: Mapped[str | None] = mapped_column(String(64), index=True)
    seconds: Mapped[float | None]
    __table_args__ = (UniqueConstraint("battle", "number", name="turn_once"),)


class ReplyRow(Base):
    """Reply stored. ``audio``: as the checkpoint made it; ``presented``: as it was heard, made for this battle."""

    __tablename__ = "replies"
    id: Mapped[str] = _key()
    battle: Mapped[str] = _battle()
    number: Mapped[int]
    side: Mapped[str] = mapped_column(String(8))
    at: Mapped[float]
    text: Mapped[str | None] = mapped_column(Words)
    tokens: Mapped[list[Any] | None]
    finished: Mapped[bool]
    audio: Mapped[str | None] = mapped_column(String(64), index=True)
    presented: Mapped[str | None] = mapped_column(String(64), index=True)
    seconds: Mapped[float]
    """Of speech as presented, from the file's first sample to the last of the speech."""
    file_seconds: Mapped[float]
    measures: Mapped[dict[str, Any]]
    equalised: Mapped[dict[str, Any]]
    """What the equaliser did: loudness before and after, gain, silence cut, limiter."""
    __table_args__ = (
        UniqueConstraint("battle", "number", "side", name="reply_once"),
        CheckConstraint(_SIDE, name="reply_side"),
        CheckConstraint("seconds > 0", name="reply_seconds"),
    )


class Release(Base):
    """Both replies of a turn may be fetched from this instant."""

    __tablename__ = "releases"
    id: Mapped[str] = _key()
    battle: Mapped[str] = _battle()
    number: Mapped[int]
    at: Mapped[float]
    __table_args__ = (UniqueConstraint("battle", "number", name="release_once"),)


class Delivery(Base):
    __tablename__ = "deliveries"
    id: Mapped[str] = _key()
    battle: Mapped[str] = _battle()
    number: Mapped[int]
    side: Mapped[str] = mapped_column(String(8))
    at: Mapped[float]
    __table_args__ = (
        UniqueConstraint("battle", "number", "side", name="delivery_once"),
        CheckConstraint(_SIDE, name="delivery_side"),
    )


class Playback(Base):
    """A claim of the client: these seconds of that file were played."""

    __tablename__ = "playbacks"
    id: Mapped[str] = _key()
    battle: Mapped[str] = _battle()
    number: Mapped[int]
    side: Mapped[str] = mapped_column(String(8))
    at: Mapped[float]
    start: Mapped[float]
    end: Mapped[float]
    __table_args__ = (CheckConstraint(_SIDE, name="playback_side"),)


class VoteRow(Base):
    """Vote cast; its id is the receipt. ``ballot`` is 1 for a battle's first vote, one more after every undo."""

    __tablename__ = "votes"
    id: Mapped[str] = _key()
    battle: Mapped[str] = _battle()
    ballot: Mapped[int]
    rater: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    at: Mapped[float] = mapped_column(index=True)
    outcome: Mapped[str] = mapped_column(String(16))
    strength: Mapped[int]
    helpfulness: Mapped[int | None]
    naturalness: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Words)
    __table_args__ = (
        UniqueConstraint("battle", "ballot", name="vote_once"),
        CheckConstraint("strength BETWEEN -3 AND 3", name="vote_strength"),
        CheckConstraint(
            "(outcome = 'left' AND strength > 0) OR (outcome = 'right' AND strength < 0)"
            " OR (outcome IN ('tie', 'both_bad') AND strength = 0)",
            name="vote_outcome",
        ),
        CheckConstraint("helpfulness BETWEEN -1 AND 1", name="vote_helpfulness"),
        CheckConstraint("naturalness BETWEEN -1 AND 1", name="vote_naturalness"),
    )


class VoteDetail(Base):
    """Said about a vote after it was cast; the latest counts."""

    __tablename__ = "vote_details"
    id: Mapped[str] = _key()
    vote: Mapped[str] = mapped_column(ForeignKey("votes.id"), index=True)
    number: Mapped[int]
    at: Mapped[float]
    helpfulness: Mapped[int | None]
    naturalness: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Words)
    __table_args__ = (
        UniqueConstraint("vote", "number", name="detail_once"),
        CheckConstraint("helpfulness BETWEEN -1 AND 1", name="detail_helpfulness"),
        CheckConstraint("naturalness BETWEEN -1 AND 1", name="detail_naturalness"),
    )


class Retraction(Base):
    """``undo``: before the reveal, another vote may follow. ``retract``: for good."""

    __tablename__ = "retractions"
    id: Mapped[str] = _key()
    vote: Mapped[str] = mapped_column(ForeignKey("votes.id"), unique=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(8))
    __table_args__ = (CheckConstraint("kind IN ('undo', 'retract')", name="retraction_kind"),)


class RevealRow(Base):
    __tablename__ = "reveals"
    id: Mapped[str] = _key()
    battle: Mapped[str] = mapped_column(ForeignKey("battles.id"), unique=True)
    at: Mapped[float]


class VoidRow(Base):
    """A side failed. ``side`` is None when it is not known which."""

    __tablename__ = "voids"
    id: Mapped[str] = _key()
    battle: Mapped[str] = mapped_column(ForeignKey("battles.id"), unique=True)
    at: Mapped[float]
    side: Mapped[str | None] = mapped_column(String(8))
    reason: Mapped[str] = mapped_column(Words)


class Flag(Base):
    """A check's finding. ``state`` unavailable: the check could not be made, which says nothing of anybody."""

    __tablename__ = "flags"
    id: Mapped[str] = _key()
    battle: Mapped[str | None] = mapped_column(ForeignKey("battles.id"), index=True)
    rater: Mapped[str | None] = mapped_column(ForeignKey("raters.id"), index=True)
    at: Mapped[float]
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16))
    detail: Mapped[dict[str, Any]]
    __table_args__ = (CheckConstraint("state IN ('raised', 'cleared', 'unavailable')", name="flag_state"),)


class Erasure(Base):
    """A rater asked for everything to be erased: a tombstone that outlives what it erased."""

    __tablename__ = "erasures"
    id: Mapped[str] = _key()
    rater: Mapped[str] = mapped_column(ForeignKey("raters.id"), index=True)
    at: Mapped[float]


class ErasedBattle(Base):
    """A battle whose recordings and words are gone: erased by its rater, or swept because nothing may be kept."""

    __tablename__ = "erased_battles"
    battle: Mapped[str] = mapped_column(ForeignKey("battles.id"), primary_key=True)
    at: Mapped[float]
    cause: Mapped[str] = mapped_column(String(16))
    erasure: Mapped[str | None] = mapped_column(ForeignKey("erasures.id"))
    __table_args__ = (CheckConstraint("cause IN ('rater', 'consent')", name="erased_cause"),)


#: Parents before children: the order in which rows can be written.
TABLES: tuple[type[Base], ...] = (
    Rater,
    Consent,
    BattleRow,
    TurnRow,
    ReplyRow,
    Release,
    Delivery,
    Playback,
    VoteRow,
    VoteDetail,
    Retraction,
    RevealRow,
    VoidRow,
    Flag,
    Erasure,
    ErasedBattle,
)
#: What erasing blanks; every other column of an event never changes.
CONTENTS: dict[str, tuple[str, ...]] = {
    "battles": ("address",),
    "turns": ("text", "typed", "heard", "audio"),
    "replies": ("text", "tokens", "audio", "presented", "measures"),
    "votes": ("reason",),
    "vote_details": ("reason",),
}
