"""How often each pair met and who won, counted by the database: what the choice of the next pair asks for."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import CTE, Select, case, exists, func, select

from app.store.database import Store
from app.store.schema import BattleRow, Consent, ErasedBattle, Flag, Retraction, VoteRow

Counts = tuple[int, int, int]


def tallies(store: Store, source: str) -> dict[tuple[str, str], Counts]:
    """By pair, names in order: (first won, neither, second won).

    Exactly the votes that ``queries.votes`` reads as counted; no vote is read one by one.
    """
    with store.reading() as session:
        groups = session.execute(_counted(source)).all()
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for left, right, outcome, number in groups:
        pair = (min(left, right), max(left, right))
        winner = {"left": left, "right": right}.get(outcome)
        counts[pair][1 if winner is None else 0 if winner == pair[0] else 2] += number
    return {pair: (first, neither, second) for pair, (first, neither, second) in counts.items()}


def _counted(source: str) -> Select[tuple[str, str, str, int]]:
    """A vote does not count when it was taken back, its battle is erased, its rater allowed nothing since the battle
    began, it is gold or a repeat, or its battle or rater is flagged."""
    raised = _raised()
    forbidden = exists().where(Consent.rater == BattleRow.rater, Consent.at >= BattleRow.at, Consent.level == "nothing")
    return (
        select(BattleRow.left, BattleRow.right, VoteRow.outcome, func.count())
        .join(VoteRow, VoteRow.battle == BattleRow.id)
        .where(
            BattleRow.source == source,
            BattleRow.kind == "ordinary",
            BattleRow.consent != "nothing",
            ~exists().where(Retraction.vote == VoteRow.id),
            ~exists().where(ErasedBattle.battle == BattleRow.id),
            ~forbidden,
            BattleRow.id.not_in(select(raised.c.battle).where(raised.c.battle.is_not(None))),
            BattleRow.rater.not_in(select(raised.c.rater).where(raised.c.rater.is_not(None))),
        )
        .group_by(BattleRow.left, BattleRow.right, VoteRow.outcome)
    )


def _raised() -> CTE:
    """Flags whose last finding of their kind, of a battle or else of a rater, is that they are raised."""
    # A flag of a battle says nothing of its rater's other battles.
    rater = case((Flag.battle.is_(None), Flag.rater))
    last = (
        select(
            Flag.battle.label("battle"),
            rater.label("rater"),
            Flag.state.label("state"),
            func.row_number()
            .over(partition_by=(Flag.battle, rater, Flag.kind), order_by=(Flag.at.desc(), Flag.id.desc()))
            .label("place"),
        )
        .where(Flag.state != "unavailable")
        .subquery()
    )
    return select(last.c.battle, last.c.rater).where(last.c.place == 1, last.c.state == "raised").cte("raised")
