from __future__ import annotations

import numpy as np
import pytest

from evaluation.intervals import bootstrap_mean, bootstrap_ratio, bootstrap_ratio_difference, wilson


def test_wilson_by_hand():
    # p = 8/10, z = 1.96, z2 = 3.8415: centre (0.8 + 0.19207) / 1.38415 = 0.71674;
    # half 1.96 * sqrt(0.016 + 0.0096036) / 1.38415 = 0.22658.
    share = wilson(8, 10)
    assert (share.value, share.n) == (0.8, 10)
    assert share.low == pytest.approx(0.49016, abs=1e-4)
    assert share.high == pytest.approx(0.94332, abs=1e-4)


def test_wilson_does_not_claim_certainty_from_all_or_none():
    # n/(n + z2) for all right: 5 / 8.8415 = 0.56552.
    assert wilson(5, 5).low == pytest.approx(0.56552, abs=1e-4)
    assert wilson(5, 5).high == 1.0
    assert wilson(0, 5).high == pytest.approx(1 - 0.56552, abs=1e-4)
    assert wilson(0, 0) is None


def test_the_bootstrap_of_a_mean_agrees_with_the_normal_interval():
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    mean = bootstrap_mean(values)
    error = values.std() / np.sqrt(400)
    assert mean.value == pytest.approx(values.mean())
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_repeating_every_sample_of_a_prompt_does_not_shorten_the_interval():
    values = np.random.default_rng(4).normal(0.0, 1.0, 100)
    once = bootstrap_mean(values)
    eight_times = bootstrap_mean(np.repeat(values, 8), clusters=np.repeat(np.arange(100), 8))
    assert eight_times.n == 100
    assert eight_times.high - eight_times.low == pytest.approx(once.high - once.low, rel=0.1)
    pretended = bootstrap_mean(np.repeat(values, 8))
    assert pretended.high - pretended.low < 0.5 * (once.high - once.low)


def test_a_ratio_weighs_recordings_by_their_words():
    rate = bootstrap_ratio([1, 0, 0], [1, 4, 5])
    assert rate.value == pytest.approx(0.1)
    assert (rate.low, rate.n) == (0.0, 3)
    assert bootstrap_ratio([], []) is None
    assert bootstrap_ratio([2.0], [0.0]) is None


def test_a_paired_difference_without_any_change_is_exactly_zero():
    errors, words = [1, 0, 3, 2], [5, 5, 5, 5]
    difference = bootstrap_ratio_difference(errors, errors, words)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_a_constant_pair_of_errors_more_has_a_known_difference():
    # One error more in each recording of five words: 20 points, without any spread.
    difference = bootstrap_ratio_difference([2, 1, 4], [1, 0, 3], [5, 5, 5])
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.2, 0.2, 0.2))


def test_the_seed_decides_the_interval():
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
