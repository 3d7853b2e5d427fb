"""How many battles an hour: of one rater, of one network address, and by new raters of one address."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import distinct, func, select
from sqlalchemy.orm import Session

from app.battles import BattleError
from app.store.schema import BattleRow, Rater

TOO_MANY = "That is a lot of battles in one hour. Come back a little later."
TOO_MANY_NEW = "Many new raters have begun here within one hour. Come back a little later."
_HOUR = 3600.0


@dataclass(frozen=True)
class Rates:
    """An address may be a whole classroom's."""

    of_rater: int = 90
    of_address: int = 360
    new_of_address: int = 40
    """Raters first seen within the hour who may begin."""

    def check(self, session: Session, rater: str, address: str | None, now: float) -> None:
        """Before a battle is made. ``address``: hashed; None where it is not known.

        Raises:
            BattleError: ``rate``.
        """
        since = now - _HOUR
        recent = select(func.count()).select_from(BattleRow).where(BattleRow.at > since)
        if session.scalar(recent.where(BattleRow.rater == rater)) >= self.of_rater:
            raise BattleError("rate", TOO_MANY)
        if address is None:
            return
        if session.scalar(recent.where(BattleRow.address == address)) >= self.of_address:
            raise BattleError("rate", TOO_MANY)
        # An id costs nothing: one person with a new one for every battle must not count as many raters.
        if _begins(session, rater, since):
            others = (
                select(func.count(distinct(Rater.id)))
                .join(BattleRow, BattleRow.rater == Rater.id)
                .where(BattleRow.address == address, BattleRow.at > since, Rater.at > since)
            )
            if session.scalar(others) >= self.new_of_address:
                raise BattleError("rate", TOO_MANY_NEW)


def _begins(session: Session, rater: str, since: float) -> bool:
    """Whether this rater is new and has had no battle yet."""
    seen = session.scalar(select(Rater.at).where(Rater.id == rater))
    battle = session.scalar(select(BattleRow.id).where(BattleRow.rater == rater).limit(1))
    return seen is not None and seen > since and battle is None
