"""What the host of an arena sees of it, and what keeps it tidy."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, func, select

from app.battles import STOPPED, Rules
from app.rater_views import Failure
from app.store import Store, erasing, histories, queries
from app.store.schema import (
    BattleRow,
    Consent,
    ErasedBattle,
    Flag,
    Release,
    ReplyRow,
    Retraction,
    RevealRow,
    TurnRow,
    VoidRow,
    VoteRow,
)

STATES = ("raised", "cleared", "unavailable")
_KEPT_AFTER_REVEAL = 900.0
_STUCK_AFTER = 900.0
_ORPHANED_AFTER = 3600.0


def flag(
    store: Store,
    kind: str,
    state: str,
    now: float,
    *,
    battle: str | None = None,
    rater: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """A check's finding about one battle or about everything of a rater.

    ``raised`` excludes votes when they are read, until it is ``cleared``. ``unavailable``, when the check could not be
    made, is kept for the host and excludes nothing.
    """
    if state not in STATES or (battle is None) == (rater is None):
        raise ValueError(f"A flag is one of {', '.join(STATES)}, about a battle or about a rater.")
    with store.writing() as session:
        session.add(flag_row(kind, state, now, battle=battle, rater=rater, detail=detail))


def flag_row(
    kind: str,
    state: str,
    now: float,
    *,
    battle: str | None = None,
    rater: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Flag:
    return Flag(
        id=secrets.token_hex(16), battle=battle, rater=rater, at=now, kind=kind, state=state, detail=dict(detail or {})
    )


def flags(store: Store) -> list[Flag]:
    """Flags as they stand: raised ones and checks that could not be made, newest first."""
    latest: dict[tuple[str | None, str | None, str], Flag] = {}
    with store.reading() as session:
        for each in session.scalars(select(Flag).order_by(Flag.at, Flag.id)):
            key = each.battle, each.rater, each.kind
            if each.state != "unavailable" or key not in latest:  # what cannot be checked again stays as it was
                latest[key] = each
    return sorted((each for each in latest.values() if each.state != "cleared"), key=lambda each: -each.at)


def failures(store: Store) -> list[Failure]:
    """Battles that became void, newest first."""
    chosen = select(VoidRow, BattleRow).join(BattleRow, BattleRow.id == VoidRow.battle).order_by(VoidRow.at.desc())
    with store.reading() as session:
        return [
            Failure(
                battle=void.battle,
                at=void.at,
                checkpoint=getattr(row, void.side) if void.side else None,
                reason=void.reason,
                detail={"left": row.left, "right": row.right},
                was_stopped=void.reason == STOPPED,
            )
            for void, row in session.execute(chosen)
        ]


def counts(store: Store, now: float) -> dict[str, int]:
    """Of people only: ``votes`` that stand, ``battles`` that are not void (``today``: since midnight here), ``raters``
    who voted."""
    standing = (
        select(func.count(), func.count(VoteRow.rater.distinct()))
        .select_from(VoteRow)
        .join(BattleRow, BattleRow.id == VoteRow.battle)
        .outerjoin(Retraction, Retraction.vote == VoteRow.id)
        .outerjoin(ErasedBattle, ErasedBattle.battle == VoteRow.battle)
        .where(BattleRow.source == "human", Retraction.id.is_(None), ErasedBattle.battle.is_(None))
    )
    with store.reading() as session:
        votes, raters = session.execute(standing).one()
        battles = session.scalar(_held())
    return {"votes": votes, "battles": battles, "today": today(store, now), "raters": raters}


def today(store: Store, now: float) -> int:
    """Battles of people since midnight here that are not void; cheap however many there ever were."""
    midnight = time.mktime((*time.localtime(now)[:3], 0, 0, 0, 0, 0, -1))
    with store.reading() as session:
        return session.scalar(_held().where(BattleRow.at >= midnight))


def _held() -> Select[tuple[int]]:
    held = select(func.count()).select_from(BattleRow).outerjoin(VoidRow, VoidRow.battle == BattleRow.id)
    return held.where(BattleRow.source == "human", VoidRow.id.is_(None))


def sweep(store: Store, now: float, rules: Rules) -> None:
    """Voids battles whose making was interrupted, erases what nobody may keep, deletes files that no row names.

    Battles of raters who allow no use are erased a quarter of an hour after the reveal, or once they expired. Files
    are left alone for an hour: their row may be about to be written.
    """
    _void_interrupted(store, now)
    _erase_unallowed(store, now, rules)
    store.audio.sweep_drafts(older_than=time.time() - _ORPHANED_AFTER)
    with store.reading() as session:
        named = {
            name
            for column in (TurnRow.audio, ReplyRow.audio, ReplyRow.presented)
            for name in session.scalars(select(column).where(column.is_not(None)))
        }
    orphans = [name for name in store.audio.names() if name not in named and store.audio.age(name) > _ORPHANED_AFTER]
    if orphans:
        erasing.drop_unnamed(store, orphans)


def _void_interrupted(store: Store, now: float) -> None:
    """A turn that was asked and never released: the program was stopped while the replies were made."""
    unanswered = (
        select(TurnRow.battle)
        .outerjoin(Release, (Release.battle == TurnRow.battle) & (Release.number == TurnRow.number))
        .outerjoin(VoidRow, VoidRow.battle == TurnRow.battle)
        .where(Release.id.is_(None), VoidRow.id.is_(None), TurnRow.at < now - _STUCK_AFTER)
    )
    with store.writing() as session:
        for battle in set(session.scalars(unanswered)):
            histories.load(session, battle, lock=True)
            reason = "Interrupted: the program stopped before both replies were stored."
            session.add(VoidRow(id=secrets.token_hex(16), battle=battle, at=now, side=None, reason=reason))


def _erase_unallowed(store: Store, now: float, rules: Rules) -> None:
    with store.reading() as session:
        refusing = set(session.scalars(select(Consent.rater).where(Consent.level == "nothing")))
        chosen = (
            select(BattleRow, RevealRow.at)
            .outerjoin(RevealRow, RevealRow.battle == BattleRow.id)
            .outerjoin(ErasedBattle, ErasedBattle.battle == BattleRow.id)
            .where(BattleRow.rater.in_(refusing), ErasedBattle.battle.is_(None))
        )
        levels = queries.consents(session)
        due = []
        for row, revealed_at in session.execute(chosen):
            level = queries.least_level(row.consent, [each for at, each in levels.get(row.rater, ()) if at >= row.at])
            over = revealed_at is not None and now > revealed_at + _KEPT_AFTER_REVEAL
            if level == "nothing" and (over or now > row.at + 2 * rules.expiry):
                due.append(row.id)
    if not due:
        return
    with store.writing() as session:
        files = erasing.blank(session, due, "consent", None, now)
    erasing.drop_unnamed(store, files)
