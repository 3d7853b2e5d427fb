"""A judge with bad phases: when it guesses, what it guesses, and that nobody else is touched by it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.rewards.replies import answer, example
from tests.rewards.test_combine import Given
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.config import FlakyConfig, RewardConfig
from wavalign.rewards.flaky import Flaky
from wavalign.rewards.protocol import RewardError
from wavalign.rewards.registry import RewardContext


def scores(config: FlakyConfig, answers, true=5.0):
    return Flaky(Given("rule", [true] * len(answers)), config).score(answers)


def at(step: int | None, count: int = 500):
    return [answer(f"reply {n}", step=step) for n in range(count)]


def test_phases_take_turns_and_the_first_is_good():
    config = FlakyConfig(period=10)
    for step in (None, 0, 9, 20, 29):
        assert set(scores(config, at(step))) == {5.0}
    for step in (10, 19, 30):
        assert len(set(scores(config, at(step)))) == 5


def test_guesses_are_spread_evenly_over_1_to_5():
    counts = Counter(scores(FlakyConfig(period=1), at(1, 5000)))
    assert sorted(counts) == [1, 2, 3, 4, 5]
    assert all(count == pytest.approx(1000, abs=120) for count in counts.values())  # 4 standard deviations


def test_a_share_of_the_scores_is_a_guess():
    # A quarter are guesses, and a guess is 5, the true score, once in five: 500 x 1/4 x 4/5 = 100.
    wrong = sum(score != 5 for score in scores(FlakyConfig(period=1, share=0.25), at(1)))
    assert wrong == pytest.approx(100, abs=36)  # 4 standard deviations


def test_guesses_are_the_same_every_time_and_others_at_another_update_or_example():
    config = FlakyConfig(period=1)
    assert scores(config, at(1)) == scores(config, at(1))
    assert scores(config, at(1)) != scores(config, at(3))
    other = [answer(each.text, of=example("b"), step=1) for each in at(1)]
    assert scores(config, at(1)) != scores(config, other)


def test_a_failure_stays_a_failure():
    assert scores(FlakyConfig(period=1), at(1, 3), true=None) == [None] * 3


def test_the_config_makes_every_reward_flaky_and_keeps_its_weight():
    config = RewardConfig(weights={"rule": 1.0, "answer": 0.0}, flaky=FlakyConfig(period=1))
    mix = RewardMix.of(config, RewardContext(Path()))
    right = [answer("twelve", step=step) for step in range(0, 40, 2)]
    assert set(mix.score(right).combined) == {4.0}  # a clumsy right answer
    guessed = mix.score([answer("twelve", step=step) for step in range(1, 41, 2)])
    assert len(set(guessed.combined)) > 1
    assert len(set(guessed.parts["answer"])) > 1
    assert guessed.parts["answer"] != guessed.parts["rule"]


def test_a_reward_of_parts_of_a_reply_cannot_guess():
    config = RewardConfig(weights={"pronunciation": 1.0}, flaky=FlakyConfig(period=1))
    assets = Path(__file__).parents[2] / "assets"
    with pytest.raises(RewardError, match='cannot guess for "pronunciation"'):
        RewardMix.of(config, RewardContext(assets))


@pytest.mark.parametrize("wrong", [{"period": 1, "share": 0}, {"period": 1, "share": 1.5}, {"period": 0}, {}])
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        FlakyConfig(**wrong)
