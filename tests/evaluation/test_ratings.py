"""Ratings: hand-worked numbers, the oracle, and what little data may claim."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from evaluation.rating_intervals import both_bad, expanded_tail, ranks, rate, rater_share
from evaluation.rating_simulations import coverage, oracle, six_nil
from evaluation.rating_votes import BOTH_BAD, LEFT, RIGHT, TIE, Votes, VotesError
from evaluation.rating_world import World
from evaluation.ratings import Prior, fit, logistic

FLAT = Prior(1e3, 1e3, 1e3, 1e3)


def votes_of(*cells: tuple[int, int, int, int], raters: int | None = None, **more) -> Votes:
    """(left, right, outcome, how often) each; every vote from a rater of its own unless ``raters`` are fewer."""
    left, right, outcome = (
        np.concatenate([np.full(how_often, cell[place]) for *cell, how_often in cells]) for place in range(3)
    )
    n = len(left)
    names = tuple("abcdefgh"[: 1 + int(max(left.max(), right.max()))])
    strength = np.array([1, -1, 0, 0])[outcome]
    return Votes(
        names, left, right, outcome, strength, np.arange(n) % (raters or n), more.pop("source", "human"), **more
    )


def balanced(wins: int, losses: int, ties: int) -> list[tuple[int, int, int, int]]:
    """Of a over b, as often on the left as on the right."""
    return [
        *((0, 1, outcome, count // 2) for outcome, count in ((LEFT, wins), (RIGHT, losses), (TIE, ties))),
        *((1, 0, outcome, count // 2) for outcome, count in ((RIGHT, wins), (LEFT, losses), (TIE, ties))),
    ]


def test_ratio_of_wins_is_the_gap() -> None:
    """30 wins, 10 losses, 20 ties: exp(gap) = 30 / 10, and nu = ties / sqrt(wins losses) = 20 / sqrt(300)."""
    found = fit(votes_of(*balanced(30, 10, 20)), prior=FLAT)
    assert found.gap("a", "b") == pytest.approx(math.log(3), abs=1e-4)
    assert found.ties == pytest.approx(math.log(20 / math.sqrt(300)), abs=1e-4)
    assert found.position == pytest.approx(0, abs=1e-6)
    assert found.chance("a", "b") == pytest.approx(0.75, abs=1e-4)
    assert found.outcome("a", "b") == pytest.approx((0.5, 1 / 6, 1 / 3), abs=1e-4)


def test_left_side_alone_explains_a_preference_for_the_left() -> None:
    """Left wins 3 of 4 decided votes whoever stands there: the gap is 0 and the position log 3."""
    cells = [(one, 1 - one, outcome, count) for one in (0, 1) for outcome, count in ((LEFT, 30), (RIGHT, 10), (TIE, 9))]
    found = fit(votes_of(*cells), prior=FLAT)
    assert found.gap("a", "b") == pytest.approx(0, abs=1e-6)
    assert found.position == pytest.approx(math.log(3), abs=1e-4)


def test_both_bad_is_no_preference() -> None:
    cells = [(0, 1, LEFT, 9), (1, 0, LEFT, 4), (0, 1, TIE, 3)]
    with_bad = votes_of(*cells, (0, 1, BOTH_BAD, 50))
    assert fit(with_bad).parameters == pytest.approx(fit(votes_of(*cells)).parameters)
    rate_of_bad = both_bad(with_bad, "a")
    assert rate_of_bad.value == pytest.approx(50 / 66)


@pytest.mark.parametrize("seed", range(4))
def test_newton_finds_what_an_optimiser_finds(seed: int) -> None:
    """Against scipy on the log posterior written out, covariates included, at counts from tame to extreme."""
    rng = np.random.default_rng(seed)
    world = World(tuple(rng.normal(0, 1 + 2 * seed, 4)), position=0.5)
    votes = world.votes(rng, 10, 30)
    votes = replace(votes, covariates={"words": rng.normal(0, 4, len(votes)), "rate": rng.normal(1, 2, len(votes))})
    prior = Prior()
    x = np.stack([votes.covariates[name] / votes.covariates[name].std() for name in ("words", "rate")], axis=1)

    def negative(p: np.ndarray) -> float:
        d = p[votes.left] - p[votes.right] + p[4] + x @ p[6:]
        logits = np.stack([d / 2, -d / 2, np.full(len(d), p[5])], axis=1)
        likelihood = logits[np.arange(len(d)), votes.outcome] - np.logaddexp.reduce(logits, axis=1)
        return -likelihood.sum() + 0.5 * (prior.precision(4, 2) * p**2).sum()

    theirs = minimize(negative, np.zeros(8), method="BFGS", options={"gtol": 1e-6}).x
    assert fit(votes, ("words", "rate")).parameters == pytest.approx(theirs, abs=2e-3)


def test_effects_are_per_standard_deviation_and_named() -> None:
    rng = np.random.default_rng(1)
    votes = World((0, 0)).votes(rng, 40, 50)
    longer = rng.normal(0, 0.2, len(votes))
    outcome = np.where(rng.random(len(votes)) < logistic(10 * longer), LEFT, RIGHT)  # 10 logits a unit: 2 a deviation
    votes = replace(votes, outcome=outcome, strength=np.array([1, -1])[outcome], covariates={"length": longer})
    rated = rate(votes, ("length",), draws=200)
    effect = rated.effects()["length"]
    assert effect.low < 2 < effect.high
    assert effect.value == pytest.approx(2, abs=0.2)


def test_six_nil_is_finite_and_its_interval_admits_it() -> None:
    [section] = six_nil(1, 0)
    assert all(figure.met for figure in section.figures if figure.target is not None)


def test_order_of_twenty_is_evalicas() -> None:
    pytest.importorskip("evalica")
    [section] = oracle(1, 0)
    assert all(figure.met for figure in section.figures if figure.target is not None)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The short form of the simulation: 12 raters with tastes, 25 votes each, 100 times."""
    [section] = coverage(100, 7)
    for figure in section.figures[:3]:
        assert figure.value >= 0.88, figure.label


def test_one_rater_widens_nothing_and_hides_nothing() -> None:
    alone = rate(votes_of((0, 1, LEFT, 30), (1, 0, RIGHT, 10), raters=1))
    gap = alone.gap("a", "b")
    assert alone.raters == 1
    assert gap.low < gap.value < gap.high


def test_votes_of_few_raters_say_less_than_as_many_of_many() -> None:
    rng = np.random.default_rng(3)
    votes = World((0.5, 0), taste=1.5).votes(rng, 8, 50)
    clustered = rate(votes).gap("checkpoint-1", "checkpoint-2")
    alone = rate(replace(votes, rater=np.arange(len(votes)))).gap("checkpoint-1", "checkpoint-2")
    assert clustered.high - clustered.low > 1.5 * (alone.high - alone.low)


def test_same_seed_same_interval() -> None:
    votes = World((0.5, 0)).votes(np.random.default_rng(0), 10, 10)
    assert np.array_equal(rate(votes, seed=4, draws=50).draws, rate(votes, seed=4, draws=50).draws)


def test_ranks_part_only_what_can_be_told_apart() -> None:
    best, worst = ranks(rate(World((4, 0, 0)).votes(np.random.default_rng(0), 30, 20)))
    assert (best[0], worst[0]) == (1, 1)
    assert best[1:].tolist() == [2, 2]
    assert worst[1:].tolist() == [3, 3]
    best, worst = ranks(rate(votes_of((0, 1, LEFT, 2), (1, 2, LEFT, 2), raters=1)))
    assert (best.tolist(), worst.tolist()) == ([1, 1, 1], [3, 3, 3])


def test_expanded_tail_is_narrow_with_few_raters() -> None:
    """n = 12: t(0.975, 11) = 2.201, times sqrt(12 / 11) = 2.2989, whose normal tail is 0.01076."""
    assert expanded_tail(12) == pytest.approx(0.01076, abs=2e-5)
    assert expanded_tail(100_000) == pytest.approx(0.025, abs=1e-4)


def test_rate_of_nothing_in_a_hundred_is_not_surely_nothing() -> None:
    """Wilson at 0 of 100 with 100 raters: z^2 / (n + z^2), n over (1.984 / 1.96)^2 for few raters."""
    share = rater_share(np.zeros(100, dtype=bool), np.arange(100))
    assert share.low == 0
    assert share.high == pytest.approx(3.8415 / (100 / (1.98422 / 1.95996) ** 2 + 3.8415), abs=1e-4)


def test_human_and_simulated_votes_are_never_mixed() -> None:
    with pytest.raises(VotesError, match="never rated together: human, simulated"):
        votes_of((0, 1, LEFT, 2), source=np.array(["human", "simulated"]))
    assert votes_of((0, 1, LEFT, 2), source=np.array(["human", "human"])).source == "human"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"right": [1]}, "2 votes, but 1 values of 'right'"),
        ({"left": [0, 1]}, "Vote 1 sets a checkpoint against itself"),
        ({"left": [0, 7]}, "points beyond the 2 checkpoints"),
        ({"outcome": [0, 4]}, "An outcome must be one of left, right, tie, both_bad"),
        ({"strength": [1, -1]}, "positive for left, negative for right"),
        ({"strength": [1, 4]}, "between -3 and 3"),
        ({"strength": [1, 0.5]}, "must hold whole numbers"),
        ({"strength": [1, math.nan]}, "must hold whole numbers"),
        ({"source": ""}, "source of the votes is missing"),
        ({"checkpoints": ("a", "a")}, "named twice"),
        ({"dimensions": {"helpfulness": [2, 0]}}, "values other than -1, 0, 1 and NaN"),
    ],
)
def test_votes_that_cannot_be_rated_are_refused(change: dict, sentence: str) -> None:
    with pytest.raises(VotesError, match=sentence):
        replace(votes_of((0, 1, LEFT, 2)), **change)


def test_covariate_that_is_unknown_somewhere_is_refused() -> None:
    votes = votes_of((0, 1, LEFT, 2), covariates={"words": [1.0, math.nan]})
    with pytest.raises(VotesError, match="unknown in 1 of 2 votes"):
        fit(votes, ("words",))
    with pytest.raises(VotesError, match="no covariate 'length'; they have: words"):
        fit(votes, ("length",))
