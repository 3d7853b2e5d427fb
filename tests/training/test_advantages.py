from __future__ import annotations

import numpy as np
import pytest

from wavalign.training.advantages import group_advantages, uniform_groups
from wavalign.training.weights import row_weights

NAN = float("nan")


def test_a_group_is_centred_and_divided_by_its_population_deviation():
    """5, 3, 1, 3: mean 3, deviation sqrt((4 + 0 + 4 + 0) / 4) = sqrt 2."""
    scale = np.sqrt(2) + 1e-4
    assert group_advantages(np.array([[5.0, 3.0, 1.0, 3.0]]))[0] == pytest.approx([2 / scale, 0, -2 / scale, 0])


def test_dr_grpo_only_centres():
    assert group_advantages(np.array([[5.0, 3.0, 1.0, 3.0]]), "none")[0].tolist() == [2, 0, -2, 0]


@pytest.mark.parametrize("scale", ["group", "none"])
def test_a_group_without_differences_gives_exactly_zero(scale):
    rewards = np.array([[0.1, 0.1, 0.1], [4.0, 4.0, NAN], [NAN, NAN, NAN], [2.0, NAN, NAN]])
    assert (group_advantages(rewards, scale) == 0).all()
    assert uniform_groups(rewards).all()


def test_a_failed_reward_changes_nothing_for_the_others():
    whole = group_advantages(np.array([[5.0, 1.0, 3.0]]))[0]
    with_failure = group_advantages(np.array([[5.0, NAN, 1.0, 3.0]]))[0]
    assert with_failure[[0, 2, 3]] == pytest.approx(whole)
    assert with_failure[1] == 0


def test_groups_do_not_see_each_other():
    one, other = np.array([[5.0, 1.0]]), np.array([[2.0, 4.0]])
    both = group_advantages(np.concatenate([one, other]))
    assert both[0].tolist() == group_advantages(one)[0].tolist()
    assert both[1].tolist() == group_advantages(other)[0].tolist()


COUNTS = np.array([4, 0, 1])


def test_normalisers_by_hand():
    """Three completions with 4, 0 and 1 masked tokens."""
    assert row_weights(COUNTS, "sequence", 10).tolist() == pytest.approx([1 / 12, 0, 1 / 3])
    assert row_weights(COUNTS, "tokens", 10).tolist() == pytest.approx([1 / 5, 0, 1 / 5])
    assert row_weights(COUNTS, "constant", 10).tolist() == pytest.approx([1 / 30, 0, 1 / 30])


@pytest.mark.parametrize("normalise", ["sequence", "tokens", "constant"])
def test_nothing_to_count_weighs_nothing(normalise):
    assert row_weights(np.zeros(3, int), normalise, 10).tolist() == [0, 0, 0]
