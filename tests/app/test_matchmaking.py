"""Which pair meets next, and on which sides."""

from __future__ import annotations

import random

import numpy as np
import pytest

from app.matchmaking import Matchmaking, Tally

PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


def test_pair_that_met_least_is_chosen_and_every_pair_keeps_a_chance() -> None:
    tallies = {("a", "b"): Tally(10, 0, 10), ("a", "c"): Tally(10, 0, 10), ("b", "c"): Tally(1, 0, 1)}
    chances = Matchmaking(exploration=0.3).propensities(PAIRS, tallies)
    assert chances == pytest.approx([0.1, 0.1, 0.8])


def test_without_votes_all_pairs_are_alike() -> None:
    assert Matchmaking().propensities(PAIRS, {}) == pytest.approx([1 / 3] * 3)


def test_decided_pair_teaches_less_than_a_close_one() -> None:
    """After as many battles, 18 to 2 leaves less to learn per battle than 10 to 10: p (1 - p) is smaller."""
    shrink = Matchmaking(prior_sd=2.0).shrinkage(
        [("a", "b"), ("c", "d")], {("a", "b"): Tally(10, 0, 10), ("c", "d"): Tally(18, 0, 2)}
    )
    # With v the variance: 20 battles of p = 0.5 give 1/v = 5 + 1/8; one more takes sqrt(v) from .4417 to .4313.
    assert shrink[0] == pytest.approx(0.4417 - 0.4313, abs=2e-4)
    assert shrink[1] > 0


def test_shrinkage_by_hand_without_votes() -> None:
    """Variance 2 * 2^2 = 8 of a difference, information 1/4: sqrt(8) - sqrt(8 / 3) = 1.1954."""
    assert Matchmaking(prior_sd=2.0).shrinkage([("a", "b")], {}) == pytest.approx([1.1954], abs=1e-4)


def test_sides_are_a_fair_coin_after_the_choice() -> None:
    dice, chosen = random.Random(1), []
    for _ in range(2_000):
        pairing = Matchmaking().choose(PAIRS, {("a", "b"): Tally(9, 0, 0)}, dice)
        chosen.append((pairing.left, pairing.right))
        assert 0 < pairing.propensity <= 1
    for pair in PAIRS:
        met = [each for each in chosen if set(each) == set(pair)]
        share = np.mean([each == pair for each in met])
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(len(met))


def test_stored_propensity_is_how_often_it_happens() -> None:
    dice, tallies = random.Random(2), {("a", "b"): Tally(1, 0, 1)}
    expected = dict(zip(PAIRS, Matchmaking().propensities(PAIRS, tallies), strict=True))
    seen = [Matchmaking().choose(PAIRS, tallies, dice) for _ in range(3_000)]
    for pair in PAIRS:
        met = [each for each in seen if {each.left, each.right} == set(pair)]
        assert len(met) / 3_000 == pytest.approx(expected[pair], abs=0.04)
        assert {each.propensity for each in met} == {expected[pair]}


def test_no_pair_and_no_floor_are_refused() -> None:
    with pytest.raises(ValueError, match="no two checkpoints"):
        Matchmaking().choose([], {}, random.Random(0))
    with pytest.raises(ValueError, match="exploration"):
        Matchmaking(exploration=0.0)
