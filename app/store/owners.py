"""Who a row belongs to, and what its rater allows."""

from __future__ import annotations

import re

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.battles import BattleError
from app.store import histories
from app.store.schema import Consent, Erasure, Rater

_ID = re.compile(r"[0-9a-f]{32}")


def is_id(value: object) -> bool:
    """Whether this could be the id of a battle or a receipt; anything else never reaches the database."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def owned(session: Session, battle: object, rater: str, *, lock: bool = True) -> histories.History:
    """The rater's own battle; whoever asks for another's learns only that it is not theirs.

    Raises:
        BattleError: ``unknown``.
    """
    history = histories.load(session, battle, lock=lock) if is_id(battle) else None
    if history is None or history.row.rater != rater:
        raise BattleError("unknown", "There is no such battle of yours.")
    return history


def latest_consent(session: Session, rater: str) -> str | None:
    """None where nothing was agreed to, or nothing since everything of the rater was erased."""
    erased = select(func.max(Erasure.at)).where(Erasure.rater == rater).scalar_subquery()
    given = select(Consent.level).where(Consent.rater == rater, Consent.at > func.coalesce(erased, -1.0))
    return session.scalar(given.order_by(Consent.at.desc(), Consent.id.desc()).limit(1))


def first_seen(session: Session, rater: str, source: str, now: float) -> None:
    """Writes the rater's row unless it is there."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(Rater).values(id=rater, at=now, source=source).on_conflict_do_nothing())
