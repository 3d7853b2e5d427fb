"""From a battle's rows to its facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select, text
from sqlalchemy.orm import Session

from app.battles import BOTH_BAD, Ballot, Battle, Cast, Round
from app.listening import Played
from app.store.schema import (
    Base,
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

    # One statement for each kind of thing: over a network, statements are what a vote waits for. None of them may be
    # joined to the locked one above: what a row lock waited for is read anew, what is joined to it is not.
    ends = select(RevealRow.at, VoidRow.reason, ErasedBattle.battle).select_from(BattleRow)
    for table in (RevealRow, VoidRow, ErasedBattle):
        ends = ends.outerjoin(table, table.battle == BattleRow.id)
    reveal, void, erased = session.execute(ends.where(BattleRow.id == battle_id)).one()
    asked = _with(session, TurnRow, Release, battle_id, "number")
    answered = _with(session, ReplyRow, Delivery, battle_id, "number", "side")
    played = select(Playback).where(Playback.battle == battle_id).order_by(Playback.at, Playback.id)
    playbacks = list(session.scalars(played)) if any(delivery for _, delivery in answered) else []
    rounds = tuple(
        Round(
            asked_at=turn.at,
            replies={each.side: each.seconds for each, _ in answered if each.number == turn.number},
            released_at=release.at if release is not None else None,
            delivered={each.side: each.at for _, each in answered if each is not None and each.number == turn.number},
            played=tuple(
                Played(each.side, each.start, each.end, each.at) for each in playbacks if each.number == turn.number
            ),
        )
        for turn, release in asked
    )
    chosen = select(VoteRow, Retraction).outerjoin(Retraction, Retraction.vote == VoteRow.id)
    cast = session.execute(chosen.where(VoteRow.battle == battle_id).order_by(VoteRow.ballot)).all()
    battle = Battle(
        row.id,
        row.rater,
        row.at,
        rounds,
        tuple(_cast(session, vote, taken_back) for vote, taken_back in cast),
        reveal,
        void,
        erased is not None,
    )
    votes = tuple(vote for vote, _ in cast)
    return History(row, battle, tuple(turn for turn, _ in asked), tuple(reply for reply, _ in answered), votes)


def _with(session: Session, table: type[Base], event: type[Base], battle_id: str, *keys: str) -> list[Any]:
    """The rows of a battle in order, each with the event that followed it, or None."""
    same = and_(event.battle == battle_id, *(getattr(event, key) == getattr(table, key) for key in keys))
    order = [getattr(table, key) for key in keys]
    chosen = select(table, event).outerjoin(event, same).where(table.battle == battle_id).order_by(*order)
    return session.execute(chosen).all()


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
