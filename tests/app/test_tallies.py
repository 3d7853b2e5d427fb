"""Pairs are counted by the database exactly as reading the votes one by one would count them: on both databases."""

from __future__ import annotations

import random
from collections import Counter

from app.arena_host import flag_row
from app.store import Store, queries
from app.store.schema import TABLES, Base, BattleRow, Consent, ErasedBattle, Rater, Retraction, VoteRow
from app.store.tallies import tallies

NAMES = ("base", "tuned", "Zed", "other")
OUTCOMES = {"left": 1, "right": -1, "tie": 0, "both_bad": 0}


def fill(store: Store, votes: int, seed: int = 3) -> None:
    """Votes with everything that keeps one from counting, each several times."""
    dice = random.Random(seed)
    raters = [f"r-{number}" for number in range(20)]
    sources = {rater: dice.choice(("human", "human", "simulated")) for rater in raters}
    ordinary: list[str] = []

    def some(share: float) -> bool:
        return dice.random() < share

    rows: list[Base] = []
    rows.extend(Rater(id=rater, at=0.0, source=sources[rater]) for rater in raters)
    for number, rater in enumerate(raters[:8]):
        # Two forbid it halfway, one of them at the very instant of a battle; the others change their minds.
        level = "nothing" if number < 2 else dice.choice(("research", "publish"))
        rows.append(Consent(id=f"c-{rater}", rater=rater, at=float(votes // 2 + number), level=level))
    for number in range(votes):
        battle, rater, now = f"b-{number:04}", dice.choice(raters), float(number)
        kind = dice.choices(("ordinary", "gold", "repeat"), (12, 1, 1))[0]
        kind = "gold" if kind == "repeat" and not ordinary else kind
        left, right = dice.sample(NAMES, 2)
        rows.append(
            BattleRow(
                id=battle,
                at=now,
                rater=rater,
                source=sources[rater],
                kind=kind,
                gold_side="left" if kind == "gold" else None,
                repeat_of=ordinary.pop() if kind == "repeat" else None,
                left=left,
                right=right,
                sampling={},
                propensity=1.0,
                choice={},
                consent=dice.choices(("research", "publish", "nothing"), (6, 6, 1))[0],
                category="",
                language="en",
            )
        )
        ordinary += [battle] if kind == "ordinary" else []
        for ballot in range(1, 3 if some(0.1) else 2):
            outcome, vote = dice.choice(list(OUTCOMES)), f"v-{number:04}-{ballot}"
            about = {"battle": battle, "ballot": ballot, "rater": rater, "at": now + ballot / 10}
            rows.append(VoteRow(**about, id=vote, outcome=outcome, strength=OUTCOMES[outcome]))
            again = ballot == 1 and some(0.1)
            if again or some(0.1):
                rows.append(Retraction(id=f"t-{vote}", vote=vote, at=now, kind="undo" if again else "retract"))
        if some(0.08):
            rows.append(ErasedBattle(battle=battle, at=now, cause=dice.choice(("rater", "consent"))))
        for place in range(dice.choice((0, 0, 0, 1, 2, 3))):
            state = dice.choice(("raised", "cleared", "unavailable"))
            kind = dice.choice(("speech", "copied"))
            rows.append(flag_row(kind, state, now + place // 2, battle=battle, rater=rater if some(0.5) else None))
    for rater in raters[8:14]:
        for state in dice.choices(("raised", "cleared", "unavailable"), k=3):
            rows.append(flag_row("speed", state, dice.random(), rater=rater))
    with store.writing() as session:
        for table in TABLES:
            session.add_all(row for row in rows if isinstance(row, table))
            session.flush()


def one_by_one(store: Store, source: str) -> dict[tuple[str, str], tuple[int, int, int]]:
    counts: Counter[tuple[tuple[str, str], str | None]] = Counter()
    for vote in queries.votes(store, source=source):
        winner = {"left": vote.left, "right": vote.right}.get(vote.outcome)
        counts[tuple(sorted((vote.left, vote.right))), winner] += 1
    pairs = {pair for pair, _ in counts}
    return {(a, b): (counts[(a, b), a], counts[(a, b), None], counts[(a, b), b]) for a, b in pairs}


def test_every_reason_not_to_count_is_honoured(store: Store) -> None:
    assert tallies(store, "human") == {}
    fill(store, 300)
    reasons = {str(each.excluded).split(":")[0] for each in queries.votes(store, counted_only=False)}
    assert reasons == {"None", "erased", "retracted", "consent", "gold", "repeat", "flag"}
    for source in ("human", "simulated"):
        expected = one_by_one(store, source)
        assert len(expected) == 6
        assert tallies(store, source) == expected
