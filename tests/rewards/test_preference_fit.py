"""The numbers behind a reward model from votes: Davidson's fit, raters' habits, held-out accuracy, the 1-5 scale."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wavalign.rewards.preference_fit import BOTH_BAD, LEFT, RIGHT, TIE, Prior, fit
from wavalign.rewards.preference_held_out import WIDTHS, accuracy, best, foretell
from wavalign.rewards.preference_model import Calibration, Scaling

WIDE = Prior(weight=1e3, level=1e3, side=1e-3, ties=1e3, own_side=1e-3, own_ties=1e-3)
"""As good as no prior, and no liking for a side."""


def test_davidson_by_hand() -> None:
    """8 left, 2 right, 4 ties at a difference of 1.

    P(left)/P(right) = e^d, so d = log(8/2); P(tie)/sqrt(P(left) P(right)) = nu, so nu = 4/sqrt(8 * 2) = 1.
    """
    outcome = np.array([LEFT] * 8 + [RIGHT] * 2 + [TIE] * 4)
    left, right = np.full((14, 1), 0.5), np.full((14, 1), -0.5)
    found = fit(left, right, outcome, np.zeros(14, int), WIDE)
    assert found.weights[0] == pytest.approx(math.log(4), abs=1e-3)
    assert found.ties == pytest.approx(0, abs=1e-3)
    # The mean log likelihood of those shares: 8/14 log 8/14 + 2/14 log 2/14 + 4/14 log 4/14.
    shares = np.array([8, 2, 4]) / 14
    assert found.log_likelihood(left, right, outcome).mean() == pytest.approx((shares * np.log(shares)).sum(), abs=1e-4)


def test_bradley_terry_without_ties_by_hand() -> None:
    """3 of 4 for the better one: w = log 3. A difference of 2 doubles it. The sides swapped change nothing."""
    outcome = np.array([LEFT, LEFT, RIGHT, RIGHT])  # the third vote has its sides swapped
    left = np.array([[0.5], [0.5], [-0.5], [0.5]])
    found = fit(left, -left, outcome, np.zeros(4, int), WIDE)
    assert found.gaps(np.array([[2.0]]), np.array([[0.0]]))[0] == pytest.approx(2 * math.log(3), abs=1e-3)


def test_what_tells_questions_apart_gets_no_weight() -> None:
    """Two features tell the better reply equally well; the second is also ten times as large in one question as in
    another. Votes do not mind; one scale for all questions does."""
    question = np.repeat([-10.0, 10.0], 40)
    better = np.tile([0.5, 0.5, 0.5, -0.5], 20)
    left = np.stack([better, question + better], axis=1)
    right = np.stack([-better, question - better], axis=1)
    outcome = np.zeros(80, int)
    found = fit(left, right, outcome, np.zeros(80, int))
    assert found.weights[0] > 10 * abs(found.weights[1])
    loose = fit(left, right, outcome, np.zeros(80, int), Prior(level=1e6))
    assert loose.weights[0] == pytest.approx(loose.weights[1], rel=1e-3)


def test_a_raters_liking_for_a_side_is_not_the_replies() -> None:
    """Rater 0 always says left, whatever is heard; rater 1 prefers what is better."""
    rng = np.random.default_rng(0)
    better = rng.choice([-1.0, 1.0], 400)
    better[:200] = np.where(rng.random(200) < 0.8, 1.0, -1.0)  # rater 0 happened to get the better reply on the left
    outcome = np.where(better > 0, LEFT, RIGHT)
    outcome[:200] = LEFT
    noisy = rng.random(400) < 0.25
    noisy[:200] = False
    outcome[noisy] = RIGHT - outcome[noisy]
    rater = np.repeat([0, 1], 200)
    prior = Prior(weight=3.0, own_side=5.0)
    left, right = better[:, None] / 2, -better[:, None] / 2
    with_own = fit(left, right, outcome, rater, prior)
    assert with_own.own_side[0] > 2
    assert abs(with_own.own_side[1]) < 1.5
    assert with_own.weights[0] == pytest.approx(math.log(3), abs=0.4)
    # Without habits of their own, both raters are taken at their word.
    without = fit(left, right, outcome, np.zeros(400, int), prior)
    assert abs(without.weights[0] - math.log(3)) > abs(with_own.weights[0] - math.log(3))


def test_a_fit_needs_votes_for_a_side_or_ties() -> None:
    with pytest.raises(ValueError, match="needs votes"):
        fit(np.ones((1, 1)), np.ones((1, 1)), np.array([BOTH_BAD]), np.zeros(1, int))
    with pytest.raises(ValueError, match="numbers"):
        fit(np.array([[np.nan]]), np.ones((1, 1)), np.array([LEFT]), np.zeros(1, int))


def planted(votes: int = 240, features: int = 30, strength: float = 2.0, raters: int = 12, seed: int = 1) -> dict:
    """Replies with random features; raters prefer more of the first one, by ``strength`` logits, with habits."""
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, votes, features))
    rater = rng.integers(0, raters, votes)
    d = strength * (left[:, 0] - right[:, 0]) + rng.normal(0, 0.5, raters)[rater]
    chances = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(votes, 0.5)], axis=1)
    chances /= chances.sum(1, keepdims=True)
    outcome = (rng.random(votes)[:, None] > chances.cumsum(1)).sum(1)
    prompt = rng.integers(0, votes // 2, votes)
    return {"readings": [(left, right)], "outcome": outcome, "prompt": prompt, "rater": rater}


def test_a_planted_criterion_is_found_on_pairs_that_were_held_out() -> None:
    votes = planted()
    found = foretell(**votes)
    judged = accuracy(found.gaps, votes["outcome"], votes["prompt"], votes["rater"])
    assert judged.value > 0.7
    assert judged.low > 0.6
    ((left, right),) = votes["readings"]
    assert np.corrcoef(found.gaps, left[:, 0] - right[:, 0])[0, 1] > 0.8
    which, width = best(**votes)
    assert (which, width in WIDTHS) == (0, True)
    whole = fit(left, right, votes["outcome"], votes["rater"], Prior(weight=width))
    assert np.abs(whole.weights).argmax() == 0
    assert abs(whole.weights[0]) > 4 * np.abs(whole.weights[1:]).mean()


def test_what_tells_the_better_reply_is_read_and_noise_is_not() -> None:
    """Three ways to read the same votes: noise alone, what raters go by alone, and both."""
    votes = planted(160, features=2, seed=3)
    ((left, right),) = votes["readings"]
    noise = np.random.default_rng(4).normal(size=(2, len(left), 30))
    both = [np.concatenate([side, more], axis=1) for side, more in zip((left, right), noise, strict=True)]
    readings = [tuple(noise), (left, right), tuple(both)]
    which, _ = best(**{**votes, "readings": readings})
    assert which == 1


def test_without_a_criterion_held_out_accuracy_is_not_above_chance() -> None:
    votes = planted(150, strength=0.0, seed=2)
    judged = accuracy(foretell(**votes).gaps, votes["outcome"], votes["prompt"], votes["rater"])
    assert judged.low < 0.5


def test_a_vote_is_foretold_without_its_prompt_and_its_rater() -> None:
    """Each prompt has an answer of its own that no feature but the prompt's own mark tells: nothing can be known."""
    rng = np.random.default_rng(5)
    prompts, each = 24, 5
    prompt = np.repeat(np.arange(prompts), each)
    rater = rng.permutation(np.arange(prompts * each) % 8)
    left, right = np.eye(prompts)[prompt], np.zeros((prompts * each, prompts))
    outcome = np.repeat(rng.integers(0, 2, prompts), each)
    judged = accuracy(foretell([(left, right)], outcome, prompt, rater).gaps, outcome, prompt, rater)
    assert judged.value == pytest.approx(0.5, abs=0.05)


def test_held_out_accuracy_by_hand() -> None:
    """One vote a prompt and a rater: Wilson with Student's t of 3 degrees of freedom, 3 of 4 right.

    The few-clusters correction 4/3 makes 3 effective pairs of 4: t = 3.1824, t^2 / 3 = 3.3760; centre
    (0.75 + 1.6880) / 4.3760 = 0.5571, half width sqrt(3.3760 (0.1875 + 0.8440)) / 4.3760 = 0.4264.
    """
    apart = np.arange(4)
    found = accuracy(np.array([1.0, 2.0, -1.0, 1.0]), np.array([LEFT, LEFT, RIGHT, RIGHT]), apart, apart)
    assert found.value == 0.75
    assert (found.low, found.high) == (pytest.approx(0.1307, abs=1e-3), pytest.approx(0.9836, abs=1e-3))


def test_votes_of_one_prompt_are_not_many_votes() -> None:
    outcome, guess = np.zeros(40, int), np.where(np.arange(40) < 30, 1.0, -1.0)
    rater = np.arange(40)
    apart = accuracy(guess, outcome, np.arange(40), rater)
    together = accuracy(guess, outcome, np.arange(40) // 10, rater)
    assert apart.value == together.value == 0.75
    assert apart.low > 0.5 > together.low


def test_ties_and_both_bad_are_not_foretold_and_an_even_guess_counts_half() -> None:
    outcome = np.array([LEFT, RIGHT, TIE, BOTH_BAD])
    found = accuracy(np.array([1.0, 0.0, 1.0, 1.0]), outcome, np.arange(4), np.arange(4))
    assert found.pairs == 2
    assert found.value == 0.75
    assert accuracy(np.ones(1), np.array([TIE]), np.zeros(1), np.zeros(1)) is None


def test_all_right_is_not_certainty() -> None:
    found = accuracy(np.ones(6), np.zeros(6, int), np.arange(6), np.arange(6) % 2)
    assert found.value == 1
    assert found.low < 0.5


def test_the_scale_by_hand() -> None:
    """Two questions answered -1 and 1, and 3 and 5: mean 2; two apart within a question, so a variance of 2.

    Phi(0) = 1/2 and Phi(1) = 0.8413, so 2 is worth 3 and 2 + sqrt 2 is worth 1 + 4 * 0.8413.
    """
    scale = Calibration.of(np.array([-1.0, 5.0]), np.array([1.0, 3.0]), np.array([RIGHT, LEFT]))
    wanted = [3.0, 4.3654, 1.6346]
    assert scale(2 + np.array([0, math.sqrt(2), -math.sqrt(2)])) == pytest.approx(wanted, abs=1e-4)
    assert scale(np.array([-50.0, 50.0])) == pytest.approx([1.0, 5.0])


def test_votes_of_both_bad_tell_where_acceptable_begins() -> None:
    rng = np.random.default_rng(6)
    left, right = rng.normal(0, 3, (2, 2000))
    threshold = 1.0
    fine = [rng.random(2000) < 1 / (1 + np.exp(threshold - side)) for side in (left, right)]
    outcome = np.where(fine[0] | fine[1], LEFT, BOTH_BAD)
    scale = Calibration.of(left, right, outcome)
    assert scale.centre == pytest.approx(threshold, abs=0.25)
    assert "both bad" in scale.told_by
    assert scale(np.array([scale.centre]))[0] == 3


def test_measures_are_scaled_to_one_size_and_held_within_what_was_voted_on() -> None:
    left, right = np.array([[100.0], [np.nan]]), np.array([[300.0], [200.0]])
    scaling = Scaling.of(left, right, {"measures": 1})
    apart = scaling(left) - scaling(right)
    assert np.square(apart).mean() == pytest.approx(1)
    assert scaling(np.array([[np.nan]])) == pytest.approx(0)  # unknown is the mean
    held = scaling(np.array([[1e9], [-1e9]]))
    assert held == pytest.approx(np.array([scaling.parts["measures"].high, scaling.parts["measures"].low]))


def test_hidden_states_are_turned_and_evened_out_halfway_by_hand() -> None:
    """Two directions, (1, 1) and (1, -1), in which four replies lie at +-16 and at +-1 times the unit vector.

    Divided by the roots of their deviations they lie at +-4 and +-1 of one unit; mean squared length of the two
    differences, (8, 0) and (0, 2), is (64 + 4) / 2 = 34.
    """
    wide, narrow = np.array([1, 1]) / math.sqrt(2), np.array([1, -1]) / math.sqrt(2)
    left, right = np.array([16 * wide, narrow]), np.array([-16 * wide, -narrow])
    scaled = Scaling.of(left, right, {"text 1": 2})(np.concatenate([left, right]))
    assert np.abs(scaled) == pytest.approx(np.array([[4, 0], [0, 1], [4, 0], [0, 1]]) / math.sqrt(34), abs=1e-9)
    assert scaled[:2] == pytest.approx(-scaled[2:])


def test_parts_are_apart_and_can_be_left_out() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 6, 5))
    scaling = Scaling.of(left, right, {"text 1": 3, "measures": 2})
    assert scaling.coordinates == {"text 1": slice(0, 3), "measures": slice(3, 5)}
    alone = scaling.only(["measures"])
    assert alone(left[:, 3:]) == pytest.approx(scaling(left)[:, 3:])
