"""Preference pairs: the best against the worst, worked by hand."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from wavalign.training.pairs import Pair, PairConfig, best_against_worst


def test_the_best_of_eight_is_set_against_the_worst():
    # u = (4+3)/2=3.5, (2+2)/2=2, (5+4)/2=4.5, (1+4)/2=2.5, (3+3)/2=3, (2+1)/2=1.5, (4+4)/2=4, (5+1)/2=3
    semantic = [4, 2, 5, 1, 3, 2, 4, 5]
    acoustic = [3, 2, 4, 4, 3, 1, 4, 1]
    assert best_against_worst(semantic, acoustic) == Pair(chosen=2, rejected=5, gap=3.0)


def test_a_tie_at_the_top_goes_to_the_higher_semantic_score():
    # u: (3+5)/2 = 4, (5+3)/2 = 4, (1+1)/2 = 1
    assert best_against_worst([3, 5, 1], [5, 3, 1]).chosen == 1


def test_a_tie_at_the_bottom_rejects_the_lower_semantic_score():
    # u: 5, (3+1)/2 = 2, (1+3)/2 = 2
    assert best_against_worst([5, 3, 1], [5, 1, 3]).rejected == 2


def test_a_tie_in_utility_and_semantics_goes_to_the_higher_acoustic_score():
    # With all weight on meaning, u is 4, 4, 2 and semantics tie too: 4 against 4; sound decides, 3 over 1.
    pair = best_against_worst([4, 4, 2], [1, 3, 5], PairConfig(semantic_weight=1.0))
    assert (pair.chosen, pair.rejected) == (1, 2)


def test_equal_replies_make_no_pair_whatever_the_least_gap():
    assert best_against_worst([3, 3], [4, 4], PairConfig(least_gap=0)) is None


@pytest.mark.parametrize(("acoustic", "kept"), [([3, 4], True), ([3.2, 4], False)])
def test_the_gap_must_be_at_least_a_half(acoustic, kept):
    # u: (3+3)/2 = 3 against (3+4)/2 = 3.5, a gap of exactly 0.5; with 3.2 it is 0.4
    pair = best_against_worst([3, 3], acoustic)
    assert (pair is not None) is kept
    if kept:
        assert (pair.chosen, pair.rejected, pair.gap) == (1, 0, pytest.approx(0.5))


def test_rounding_does_not_lose_a_gap_of_exactly_the_least():
    # 0.3 * 2.1 + 0.7 * 4.1 and 0.3 * 2.1 + 0.7 * 3.1 differ by 0.7 up to rounding.
    assert best_against_worst([2.1, 2.1], [4.1, 3.1], PairConfig(semantic_weight=0.3, least_gap=0.7)) is not None


def test_a_failed_score_takes_the_reply_out_and_is_never_the_worst():
    # The second reply would be worst or best with any made-up number; without it u is 4 and 2.
    assert best_against_worst([4, None, 2], [4, 1, 2]) == Pair(0, 2, 2.0)
    assert best_against_worst([4, 5, 2], [4, None, 2]) == Pair(0, 2, 2.0)


def test_one_scored_reply_is_no_pair():
    assert best_against_worst([5, None], [5, 1]) is None
    assert best_against_worst([], []) is None


def test_a_channel_without_weight_needs_no_scores():
    assert best_against_worst([5, 1], [None, None], PairConfig(semantic_weight=1.0)) == Pair(0, 1, 4.0)


def test_lists_of_different_lengths_are_a_mistake():
    with pytest.raises(ValueError):
        best_against_worst([1, 2], [1])


def test_the_config_refuses_one_sample():
    with pytest.raises(ValidationError, match="samples"):
        PairConfig(samples=1)
