"""Evidence that stays valid however often one looks, and agreement between raters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from evaluation.agreement import alpha, alpha_estimate, self_consistency
from evaluation.evidence import FEWEST_RATERS, THRESHOLD, gather, in_general, these_raters, votes_needed
from evaluation.rating_simulations import looking


def test_e_value_of_three_wins_by_hand() -> None:
    """2 * integral of p^3 over (1/2, 1) / (1/2)^3 = 2 * (1 - 1/16) / 4 * 8 = 3.75; against: 2 * (1/64) * 8 = 0.25."""
    won, lost = these_raters(np.array([True, True, True]))
    assert math.exp(won[-1]) == pytest.approx(3.75)
    assert math.exp(lost[-1]) == pytest.approx(0.25)


def test_equals_have_a_false_winner_at_most_one_time_in_twenty() -> None:
    """The short form of the simulation: looked at after every vote up to 400, 100 times each."""
    [section] = looking(100, 11)
    for figure in section.figures:
        if figure.target is not None:
            assert figure.value <= 0.05, figure.label


@pytest.mark.parametrize("paths", [these_raters, lambda won: in_general(won, np.arange(len(won)) % 4)])
def test_e_value_is_at_most_one_on_average(paths) -> None:
    """All 256 sequences of eight fair votes: the mean at every length is at most 1, in both directions."""
    every = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    values = np.exp([paths(won) for won in every])  # (256, 2, 8)
    assert values.mean(axis=0).max() <= 1 + 1e-9


def test_unanimous_raters_fewer_than_six_are_never_enough_in_general() -> None:
    """Whatever raters of one mind say, a null of raters with fixed minds gives it 1/2 each: at most 2^raters."""
    for raters in (1, 3, FEWEST_RATERS - 1):
        log_e, _ = in_general(np.ones(3000, dtype=bool), np.arange(3000) % raters)
        assert log_e.max() <= raters * math.log(2) + 0.5
        assert log_e.max() < math.log(THRESHOLD)
    log_e, _ = in_general(np.ones(400, dtype=bool), np.arange(400) % 20)
    assert log_e.max() > math.log(THRESHOLD)


def test_blocks_do_not_change_the_path() -> None:
    rng = np.random.default_rng(0)
    won, rater = rng.random(100) < 0.6, rng.integers(0, 9, 100)
    assert in_general(won, rater, together=7)[0] == pytest.approx(in_general(won, rater)[0])


def test_meter_says_when_it_was_enough_and_keeps_saying_so() -> None:
    sign = np.array([0, *[1] * 40, *[-1] * 40])
    found = gather("tuned", "base", sign, np.arange(81) % 20)
    assert found.these_raters.winner == 1
    assert (
        found.these_raters.after == 9
    )  # 8 wins in a row: 2 * 2^8 (1 - 2^-9) / 9 = 56.8; after 7: 31.9; a tie came first
    assert (found.wins, found.losses, found.votes, found.raters) == (40, 40, 81, 20)
    reverse = gather("tuned", "base", -sign, np.arange(81) % 20)
    assert reverse.these_raters.winner == -1


def test_meter_says_about_how_many_more() -> None:
    """60 of 100 goes on as 60 %: enough where the votes needed for 60 % say, at about 279."""
    sign = np.tile([1, 1, 1, -1, -1], 20)
    found = gather("tuned", "base", sign, np.arange(100))
    assert found.these_raters.after is None
    assert found.these_raters.more == pytest.approx(votes_needed(0.6) - 100, abs=4)
    assert gather("tuned", "base", np.tile([1, -1], 50), np.arange(100)).these_raters.more is None
    assert gather("tuned", "base", np.zeros(0, dtype=int), np.zeros(0, dtype=int)).these_raters.after is None


def test_alpha_of_krippendorffs_own_example() -> None:
    """Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, part C."""
    nan = math.nan
    table = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    known = np.isfinite(table)
    units = np.broadcast_to(np.arange(12), table.shape)[known]
    for level, expected in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert alpha(table[known], units, level) == pytest.approx(expected, abs=6e-4)
    estimate = alpha_estimate(table[known], units)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.n == 11


def test_alpha_needs_two_judgements_of_something_that_varies() -> None:
    assert alpha(np.array([1, 2, 3]), ["x", "y", "z"]) is None
    assert alpha(np.array([2, 2]), ["x", "x"]) is None
    with pytest.raises(ValueError, match="Unknown level 'ratio'"):
        alpha(np.array([1, 2]), ["x", "x"], "ratio")


def test_same_rater_twice() -> None:
    same = self_consistency(np.array([3, 1, -2, 0]), np.array([1, -1, -1, 0]), np.array(["r", "r", "s", "s"]))
    assert same.value == 0.75
    assert same.low < 0.75 < same.high
    assert self_consistency(np.zeros(0), np.zeros(0), np.zeros(0)) is None
