"""A rater's own votes: seeing them, taking one back, erasing everything."""

from __future__ import annotations

import secrets

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.battles import BattleError, Rules, Stage
from app.rater_views import Erased, MyVote
from app.store import Store, erasing, histories, owners, queries
from app.store.schema import BattleRow, ErasedBattle, Erasure, Rater, Retraction, RevealRow, TurnRow, VoteRow

HIDDEN = ""
_NOT_COUNTED = {
    "gold": "not counted: one side was spoilt on purpose, to see whether votes follow what is heard",
    "repeat": "not counted: a dialogue you heard before, with the sides swapped",
    "consent": "not counted: you allowed no use of it",
}


def settle(store: Store, rater: str, now: float, rules: Rules) -> None:
    """Reveals every battle of this rater whose vote can no longer be undone: once names are seen, no more is said
    about a vote."""
    with store.writing() as session:
        voted = select(VoteRow.battle).outerjoin(RevealRow, RevealRow.battle == VoteRow.battle)
        waiting = voted.where(VoteRow.rater == rater, RevealRow.id.is_(None), VoteRow.at < now - rules.undo).distinct()
        for battle in list(session.scalars(waiting)):
            history = histories.load(session, battle, lock=True)
            if history.battle.erased or history.battle.stage(now, rules) is not Stage.VOTED:
                continue
            if now > history.battle.casts[-1].at + rules.undo:
                session.add(RevealRow(id=secrets.token_hex(16), battle=battle, at=now))


def mine(store: Store, rater: str, now: float, rules: Rules) -> list[MyVote]:
    """Newest first; names only of battles that are revealed."""
    with store.reading() as session:
        votes = queries.read_votes(session, counted_only=False, rater=rater)
        battles = [each.battle for each in votes]
        revealed = set(session.scalars(select(RevealRow.battle).where(RevealRow.battle.in_(battles))))
        turns = session.scalars(select(TurnRow).where(TurnRow.battle.in_(battles), TurnRow.number == 0))
        words = {turn.battle: turn.typed or turn.text or turn.heard or "" for turn in turns}
    shown = []
    for vote in reversed(votes):
        known, stands = vote.battle in revealed, now > vote.at + rules.undo
        if vote.excluded is not None:
            status = _NOT_COUNTED.get(vote.excluded, vote.excluded.replace("flag: ", "not counted: a check failed, "))
        else:
            status = "counted"
        shown.append(
            MyVote(
                receipt=vote.vote,
                battle=vote.battle,
                at=vote.at,
                left=vote.left if known else HIDDEN,
                right=vote.right if known else HIDDEN,
                outcome=vote.outcome,
                strength=vote.strength,
                helpfulness=vote.helpfulness,
                naturalness=vote.naturalness,
                reason=vote.reason,
                words=words.get(vote.battle, ""),
                status=status if stands or known else "pending",
                may_retract=vote.excluded not in ("retracted", "erased"),
            )
        )
    return shown


def retract(store: Store, receipt: object, rater: str, now: float, rules: Rules) -> MyVote:
    """For good: the vote stays in the log and counts no more.

    Raises:
        BattleError: ``unknown`` or ``retracted``.
    """
    with store.writing() as session:
        vote = session.get(VoteRow, receipt) if owners.is_id(receipt) else None
        if vote is None or vote.rater != rater:
            raise BattleError("unknown", "There is no such vote of yours.")
        history = histories.load(session, vote.battle, lock=True)
        if history.standing is None or history.standing.id != vote.id:
            raise BattleError("retracted", "There is no vote of yours to take back here.")
        history.battle.retracted(now)
        session.add(Retraction(id=secrets.token_hex(16), vote=vote.id, at=now, kind="retract"))
    return next(each for each in mine(store, rater, now, rules) if each.receipt == receipt)


def erase(store: Store, rater: str, now: float) -> Erased:
    """Everything of this rater: recordings, words and reasons are deleted, votes count no more and are never exported.

    What stays is a tombstone, so that no copy brings anything back.
    """
    with store.writing() as session:
        if session.get(Rater, rater) is None:
            return Erased(0, 0)
        erasure = Erasure(id=secrets.token_hex(16), rater=rater, at=now)
        session.add(erasure)
        session.flush()
        battles = list(session.scalars(select(BattleRow.id).where(BattleRow.rater == rater)))
        files = erasing.blank(session, battles, "rater", erasure.id, now)
    return Erased(len(battles), erasing.drop_unnamed(store, files))


def standing_votes(store: Store, rater: str) -> int:
    """How many votes of this rater were cast and neither taken back nor erased."""
    with store.reading() as session:
        return standing_in(session, rater)


def standing_in(session: Session, rater: str) -> int:
    """As ``standing_votes``, in the caller's transaction."""
    chosen = select(func.count()).select_from(VoteRow).outerjoin(Retraction, Retraction.vote == VoteRow.id)
    chosen = chosen.outerjoin(ErasedBattle, ErasedBattle.battle == VoteRow.battle)
    by_rater = or_(ErasedBattle.cause.is_(None), ErasedBattle.cause != "rater")
    return session.scalar(chosen.where(VoteRow.rater == rater, Retraction.id.is_(None), by_rater))
