"""An earlier battle of the same rater with its sides swapped: does the vote follow the reply or the side?"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from app import program
from app.battles import SIDES, BattleError, Side
from app.equaliser import Equalised, equalise
from app.store import Store, histories, owners, queries
from app.store.schema import BattleRow, ErasedBattle, Release, ReplyRow, Retraction, TurnRow, VoteRow
from wavalign import audio

_SWAPPED: dict[Side, Side] = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class _Prepared:
    """One turn: the earlier replies by their new side, as bytes and as they will be heard."""

    turn: TurnRow
    replies: dict[Side, ReplyRow]
    originals: dict[Side, bytes]
    equalised: dict[Side, Equalised]


def repeatable(session: Session, rater: str, gap: int) -> str | None:
    """The oldest ordinary battle whose vote stands, that never came again, with ``gap`` battles since."""
    battles = session.execute(
        select(BattleRow.id, BattleRow.kind).where(BattleRow.rater == rater).order_by(BattleRow.at.desc())
    ).all()
    over = set(session.scalars(select(BattleRow.repeat_of).where(BattleRow.rater == rater)))
    over |= set(session.scalars(select(ErasedBattle.battle)))
    standing = set(
        session.scalars(
            select(VoteRow.battle)
            .outerjoin(Retraction, Retraction.vote == VoteRow.id)
            .where(VoteRow.rater == rater, Retraction.id.is_(None))
        )
    )
    return next(
        (each for each, kind in reversed(battles[gap:]) if kind == "ordinary" and each in standing - over),
        None,
    )


def stage_again(store: Store, earlier: histories.History, rng: np.random.Generator, now: float) -> str:
    """A released battle with the same turns and replies in files of its own; returns its id.

    Raises:
        BattleError: ``erased``, when the earlier one was erased meanwhile.
    """
    row, battle = earlier.row, secrets.token_hex(16)
    prepared = [_prepared(store, earlier, turn, rng) for turn in earlier.turns]
    for each in prepared:
        for side in SIDES:
            store.audio.put(each.equalised[side].wav)
    with store.writing() as session:
        histories.lock_audio(session)
        if session.get(ErasedBattle, row.id) is not None:
            raise BattleError("erased", "That battle was erased.")
        now_allowed = owners.latest_consent(session, row.rater) or "nothing"
        same = {name: getattr(row, name) for name in ("rater", "source", "propensity", "category", "language")}
        session.add(
            BattleRow(
                **same,
                id=battle,
                at=now,
                kind="repeat",
                repeat_of=row.id,
                left=row.right,
                right=row.left,
                left_revision=row.right_revision,
                right_revision=row.left_revision,
                sampling={side: row.sampling[_SWAPPED[side]] for side in SIDES},
                choice={"rule": "repeat"},
                consent=queries.least_level(row.consent, [now_allowed]),
                program=program.revision(),
            )
        )
        session.flush()
        for each in prepared:
            session.add_all(_rows(store, battle, each, now))
    return battle


def _prepared(store: Store, earlier: histories.History, turn: TurnRow, rng: np.random.Generator) -> _Prepared:
    replies = {side: earlier.reply(turn.number, _SWAPPED[side]) for side in SIDES}
    originals = {side: store.audio.get(replies[side].audio) for side in SIDES}
    equalised = equalise({side: audio.read(originals[side]) for side in SIDES}, rng)
    return _Prepared(turn, replies, originals, equalised)


def _rows(store: Store, battle: str, prepared: _Prepared, now: float) -> list[TurnRow | ReplyRow | Release]:
    turn, number = prepared.turn, prepared.turn.number
    copied = {name: getattr(turn, name) for name in ("text", "typed", "heard", "audio", "seconds", "number")}
    rows: list[TurnRow | ReplyRow | Release] = [
        TurnRow(**copied, id=secrets.token_hex(16), battle=battle, at=now),
        Release(id=secrets.token_hex(16), battle=battle, number=number, at=now),
    ]
    for side in SIDES:
        old, heard = prepared.replies[side], prepared.equalised[side]
        kept = {name: getattr(old, name) for name in ("number", "text", "tokens", "finished", "measures")}
        rows.append(
            ReplyRow(
                **kept,
                id=secrets.token_hex(16),
                battle=battle,
                side=side,
                at=now,
                audio=store.audio.keep(prepared.originals[side]),
                presented=store.audio.keep(heard.wav),
                seconds=heard.seconds,
                file_seconds=heard.file_seconds,
                equalised=heard.treatment.as_json(),
            )
        )
    return rows
