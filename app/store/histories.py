"""From a battle's rows to its facts."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.battles import BOTH_BAD, Ballot, Battle, Cast, Round
from app.listening import Played
from app.store.schema import (
    BattleRow,
    Delivery,
    ErasedBattle,
    Playback,
    Release,
    ReplyRow,
    Retraction,
    RevealRow,
    TurnRow,
    VoidRow,
    VoteDetail,
    VoteRow,
)

_AUDIO_LOCK = 0x7761_7664


@dataclass(frozen=True)
class History:
    """One battle: its row, its facts, and the rows behind them. ``votes`` in the order of ``battle.casts``."""

    row: BattleRow
    battle: Battle
    turns: tuple[TurnRow, ...]
    replies: tuple[ReplyRow, ...]
    votes: tuple[VoteRow, ...]

    @property
    def standing(self) -> VoteRow | None:
        return self.votes[-1] if self.battle.standing is not None else None

    def reply(self, number: int, side: str) -> ReplyRow | None:
        return next((each for each in self.replies if each.number == number and each.side == side), None)


def load(session: Session, battle_id: str, *, lock: bool = False) -> History | None:
    """With ``lock``, nobody else changes this battle until the transaction ends."""
    row = session.get(BattleRow, battle_id, with_for_update=lock or None)
    if row is None:
        return None

    def of(table: type, *order: object) -> list:
        return list(session.scalars(select(table).where(table.battle == battle_id).order_by(*order)))

    turns, replies = of(TurnRow, TurnRow.number), of(ReplyRow, ReplyRow.number, ReplyRow.side)
    releases = {each.number: each.at for each in of(Release)}
    deliveries, playbacks = of(Delivery), of(Playback, Playback.at, Playback.id)
    rounds = tuple(
        Round(
            asked_at=turn.at,
            replies={each.side: each.seconds for each in replies if each.number == turn.number},
            released_at=releases.get(turn.number),
            delivered={each.side: each.at for each in deliveries if each.number == turn.number},
            played=tuple(
                Played(each.side, each.start, each.end, each.at) for each in playbacks if each.number == turn.number
            ),
        )
        for turn in turns
    )
    votes = of(VoteRow, VoteRow.ballot)
    taken_back = (
        {
            each.vote: each
            for each in session.scalars(select(Retraction).where(Retraction.vote.in_([v.id for v in votes])))
        }
        if votes
        else {}
    )
    reveal = session.scalar(select(RevealRow.at).where(RevealRow.battle == battle_id))
    void = session.scalar(select(VoidRow.reason).where(VoidRow.battle == battle_id))
    battle = Battle(
        row.id,
        row.rater,
        row.at,
        rounds,
        tuple(_cast(session, vote, taken_back.get(vote.id)) for vote in votes),
        reveal,
        void,
        session.get(ErasedBattle, battle_id) is not None,
    )
    return History(row, battle, tuple(turns), tuple(replies), tuple(votes))


def lock_audio(session: Session, *, dropping: bool = False) -> None:
    """Until the transaction ends, no file is dropped that it names (or, ``dropping``, no row names a dropped file)."""
    if session.get_bind().dialect.name == "postgresql":  # on SQLite a writer is alone anyway
        function = "pg_advisory_xact_lock" if dropping else "pg_advisory_xact_lock_shared"
        session.execute(text(f"SELECT {function}(:key)"), {"key": _AUDIO_LOCK})


def _cast(session: Session, vote: VoteRow, back: Retraction | None) -> Cast:
    detail = session.scalar(
        select(VoteDetail).where(VoteDetail.vote == vote.id).order_by(VoteDetail.number.desc()).limit(1)
    )
    said = detail or vote
    return Cast(
        number=vote.ballot,
        ballot=Ballot(vote.strength, vote.outcome == BOTH_BAD, said.helpfulness, said.naturalness, said.reason),
        at=vote.at,
        undone_at=back.at if back is not None and back.kind == "undo" else None,
        retracted_at=back.at if back is not None and back.kind == "retract" else None,
    )
