"""Erasing what was said and heard. The events stay, blank: what they name is gone from the database and the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from sqlalchemy import null, select, update
from sqlalchemy.orm import Session

from app.store import histories
from app.store.database import Store
from app.store.schema import BattleRow, ErasedBattle, ReplyRow, TurnRow, VoteDetail, VoteRow


def blank(
    session: Session, battles: Sequence[str], cause: Literal["rater", "consent"], erasure: str | None, at: float
) -> set[str]:
    """Blanks these battles in the caller's transaction; returns the audio files they named.

    The files are dropped afterwards with ``drop_unnamed``: first nobody names them, then they go.
    """
    files: set[str] = set()
    for start in range(0, len(battles), 500):
        some = battles[start : start + 500]
        # Locked, so that no reply is stored into a battle that is being erased.
        session.execute(select(BattleRow.id).where(BattleRow.id.in_(some)).with_for_update()).all()
        for column in (TurnRow.audio, ReplyRow.audio, ReplyRow.presented):
            named = select(column).where(column.class_.battle.in_(some), column.is_not(None))
            files |= set(session.scalars(named))
        done = set(session.scalars(select(ErasedBattle.battle).where(ErasedBattle.battle.in_(some))))
        session.add_all(
            ErasedBattle(battle=each, at=at, cause=cause, erasure=erasure) for each in some if each not in done
        )
        votes = select(VoteRow.id).where(VoteRow.battle.in_(some))
        for statement in (
            update(BattleRow).where(BattleRow.id.in_(some)).values(address=None),
            update(TurnRow).where(TurnRow.battle.in_(some)).values(text=None, typed=None, heard=None, audio=None),
            update(ReplyRow)
            .where(ReplyRow.battle.in_(some))
            .values(text=None, tokens=null(), audio=None, presented=None, measures={}),
            update(VoteRow).where(VoteRow.battle.in_(some)).values(reason=None),
            update(VoteDetail).where(VoteDetail.vote.in_(votes)).values(reason=None),
        ):
            session.execute(statement, execution_options={"synchronize_session": False})
    return files


def drop_unnamed(store: Store, files: Iterable[str]) -> int:
    """Deletes those of ``files`` that no row names any more; returns how many. Safe to repeat."""
    dropped = 0
    with store.writing() as session:
        histories.lock_audio(session, dropping=True)
        for name in files:
            if not _is_named(session, name):
                dropped += store.audio.drop(name)
    if store.is_sqlite:  # the write-ahead log would keep what was blanked until it is next folded in
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return dropped


def _is_named(session: Session, name: str) -> bool:
    columns = (TurnRow.audio, ReplyRow.audio, ReplyRow.presented)
    return any(session.scalar(select(column).where(column == name).limit(1)) is not None for column in columns)
