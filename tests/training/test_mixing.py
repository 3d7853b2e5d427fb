"""Lambda against the numbers of the method, and what every controller owes the loop."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from wavalign.training.mixing import (
    ChordMix,
    FixedMix,
    HptMix,
    MixConfig,
    RolloutStats,
    ScheduleMix,
    WavAlignMix,
)

NAN = float("nan")
EVERY = [FixedMix(), ScheduleMix(), WavAlignMix(), ChordMix(), HptMix()]


def lambdas(mix, *steps):
    controller = mix.controller()
    return [controller.update(RolloutStats(i, np.array(r, float))).report["lambda"] for i, r in enumerate(steps)]


@pytest.mark.parametrize(
    ("rewards", "raw"),
    [
        ([4, 3, 5, 2], 0.25),
        ([5, 5, 1, 1], 0.8),
        ([5, 1, 1, 1], 0.6),
        ([4, 1, 1, 1], 0.3352),
        ([3, 1, 1, 1], 0.075),
        ([5, 4, 4, 4], 0.0375),
        ([2, 1, 1, 1], 0.0003),
        ([3, 3, 3, 3], 0.0),
    ],
)
def test_lambda_of_one_group(rewards, raw):
    assert lambdas(WavAlignMix(), [rewards])[0] == pytest.approx(raw, abs=6e-5)


def test_gates_of_one_group():
    direction, information = WavAlignMix().gates(np.array([[4.0, 1.0, 1.0, 1.0]]))
    assert direction[0] == pytest.approx(0.9933, abs=1e-4)
    assert information[0] == pytest.approx(0.4219, abs=1e-4)


def test_the_moving_average_starts_at_the_first_value():
    """.8, then .1 * .25 + .9 * .8 = .745, then .1 * 0 + .9 * .745 = .6705."""
    values = lambdas(WavAlignMix(), [[5, 5, 1, 1]], [[4, 3, 5, 2]], [[3, 3, 3, 3]])
    assert values == pytest.approx([0.8, 0.745, 0.6705], abs=1e-4)


def test_without_memory_lambda_is_its_raw_value():
    assert lambdas(WavAlignMix(alpha=0), [[5, 5, 1, 1]], [[3, 3, 3, 3]]) == pytest.approx([0.8, 0.0], abs=1e-4)


def test_lambda_is_the_mean_over_groups():
    assert lambdas(WavAlignMix(), [[5, 5, 1, 1], [3, 3, 3, 3]])[0] == pytest.approx(0.4, abs=1e-4)


def test_no_variance_drives_lambda_to_zero():
    assert lambdas(WavAlignMix(), [[5, 5, 1, 1]], *[[[5, 5, 5, 5]]] * 60)[-1] < 0.002


def test_a_failed_reward_changes_no_gate():
    whole = lambdas(WavAlignMix(), [[5, 1, 1, 1]])
    assert lambdas(WavAlignMix(), [[5, NAN, 1, 1, 1]]) == whole
    assert lambdas(WavAlignMix(), [[5, 1, 1, 1], [NAN] * 4]) == whole


def test_lambda_is_held_when_all_rewards_failed():
    assert lambdas(WavAlignMix(), [[5, 5, 1, 1]], [[NAN] * 4]) == pytest.approx([0.8, 0.8], abs=1e-4)


def test_lambda_does_not_depend_on_the_order_of_rollouts_and_grows_with_the_best():
    mix = WavAlignMix()
    assert lambdas(mix, [[5, 1, 3, 1]]) == lambdas(mix, [[1, 1, 3, 5]])
    assert lambdas(mix, [[4, 2, 2, 2]]) > lambdas(mix, [[3, 1, 1, 1]])


@pytest.mark.parametrize("mix", EVERY)
def test_weights_are_shares(mix):
    rng = np.random.default_rng(0)
    controller = mix.controller()
    for step in range(30):
        rewards = rng.uniform(1, 5, (3, 4))
        rewards[rng.random(rewards.shape) < 0.2] = NAN
        weights = controller.update(RolloutStats(step, rewards))
        assert weights.rl.shape == weights.anchor.shape == (3,)
        assert ((weights.rl >= 0) & (weights.rl <= 1)).all()
        assert weights.rl + weights.anchor == pytest.approx(np.ones(3))


@pytest.mark.parametrize("mix", EVERY)
def test_a_restored_controller_goes_on_exactly(mix):
    rng = np.random.default_rng(1)
    steps = [RolloutStats(i, rng.uniform(1, 5, (2, 4))) for i in range(6)]
    straight, first, second = mix.controller(), mix.controller(), mix.controller()
    expected = [straight.update(s).rl.tolist() for s in steps]
    before = [first.update(s).rl.tolist() for s in steps[:3]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert before + [second.update(s).rl.tolist() for s in steps[3:]] == expected


def test_the_schedule_warms_up_and_decays():
    mix = ScheduleMix(anchor_peak=0.8, anchor_valley=0.2, warmup_steps=4, decay_steps=10)
    assert [mix.anchor(step) for step in (0, 1, 3, 4, 9, 14, 50)] == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.5, 0.2, 0.2])


def test_hpt_teaches_what_is_never_solved_and_rewards_the_rest():
    weights = HptMix().controller().update(RolloutStats(0, np.array([[5.0, 1, 1, 1], [3, 3, 1, 1]])))
    assert weights.rl.tolist() == [1, 0]
    assert weights.anchor.tolist() == [0, 1]


def test_chord_asks_for_token_weights():
    weights = ChordMix().controller().update(RolloutStats(0, np.ones((1, 4))))
    assert weights.tokens == "chord"
    assert weights.anchor.tolist() == pytest.approx([0.1])


def test_a_mix_is_chosen_by_its_kind():
    assert TypeAdapter(MixConfig).validate_python({"kind": "wavalign", "alpha": 0.5}) == WavAlignMix(alpha=0.5)
