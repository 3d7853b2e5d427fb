"""Several rewards into one: weighted means by hand, failures that never become numbers, and a limit to them."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from tests.rewards.replies import answer
from wavalign.rewards.combine import RewardMix, TooManyFailures, combine
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import RewardError, Span, Timed
from wavalign.rewards.registry import REWARDS, RewardContext


class Given:
    """A reward that gives the scores it was made with."""

    needs_audio = False

    def __init__(self, name, scores, channel="text", timed=False):
        self.name, self.scores, self.channel, self.timed = name, list(scores), channel, timed

    def score(self, answers):
        return [self.scores.pop(0) for _ in answers]


def mix(*rewards, weights=None, **settings):
    weights = weights or {reward.name: 1.0 for reward in rewards}
    return RewardMix(rewards, RewardConfig(weights=weights, **settings))


def test_the_weighted_mean_stays_between_1_and_5():
    # (2 * 5 + 1 * 2) / 3 = 4; (2 * 1 + 1 * 1) / 3 = 1; (2 * 5 + 1 * 5) / 3 = 5
    parts = {"rule": [5, 1, 5], "delivery": [2, 1, 5]}
    assert combine({"rule": 2, "delivery": 1}, parts) == pytest.approx([4, 1, 5])


def test_one_failed_part_fails_the_whole_and_only_that_reply():
    assert combine({"rule": 1, "judge": 1}, {"rule": [5, 5], "judge": [None, 3]}) == [None, 4]


def test_a_part_without_weight_neither_counts_nor_fails():
    assert combine({"rule": 1, "judge": 0}, {"rule": [5, 3], "judge": [None, 1]}) == [5, 3]


def test_nothing_to_combine_is_a_mistake():
    with pytest.raises(ValueError, match="every weight is 0"):
        combine({"rule": 0}, {"rule": [5]})
    with pytest.raises(ValueError, match="judge"):
        combine({"judge": 1}, {"rule": [5]})


def test_every_part_and_its_failures_are_reported():
    scored = mix(Given("rule", [5, 4, 1]), Given("judge_semantic", [None, 2, None]), **JUDGED).score([answer()] * 3)
    assert scored.parts == {"rule": [5, 4, 1], "judge_semantic": [None, 2, None]}
    assert scored.combined == [None, 3, None]
    assert scored.failures == {"rule": 0, "judge_semantic": 2}


def test_parts_in_time_are_kept_beside_the_score_of_the_whole():
    span = Span(0.0, 1.0, 2.0, "one")
    timed = Given("delivery", [Timed(3.0, (span,)), Timed(9.0, (span,)), None], timed=True)
    scored = mix(Given("rule", [5, 5, 5]), timed).score([answer()] * 3)
    assert scored.parts == {"rule": [5, 5, 5], "delivery": [3.0, None, None]}
    assert scored.spans == {"delivery": [(span,), (), ()]}  # a score off the scale is a failure, its parts too


@pytest.mark.parametrize("span", [Span(0, 1, math.nan), Span(0, 1, 50), Span(0, math.inf, 3), Span(2, 1, 3)])
def test_parts_off_the_scale_or_out_of_time_are_a_failure(span):
    scored = mix(Given("delivery", [Timed(3.0, (span,))], timed=True)).score([answer()])
    assert scored.parts == {"delivery": [None]}
    assert scored.spans == {"delivery": [()]}


@pytest.mark.parametrize(("timed", "score"), [(True, 3.0), (False, Timed(3.0))])
def test_a_reward_tells_times_always_or_never(timed, score):
    """Or the same replies would be judged otherwise in another batch."""
    with pytest.raises(RewardError, match="always or never"):
        mix(Given("delivery", [score], timed=timed)).score([answer()])


def test_shares_are_of_the_rewards_that_judge_a_channel():
    rewards = (Given("rule", [5], "text"), Given("delivery", [2], "speech"), Given("intelligibility", [4], "speech"))
    mixed = mix(*rewards, weights={"rule": 1, "delivery": 3, "intelligibility": 1})
    assert mixed.shares_for("speech") == {"delivery": 0.75, "intelligibility": 0.25}
    assert mixed.shares_for("format") == {}


@pytest.mark.parametrize("score", [0.99, 5.01, -1, math.nan, math.inf, -math.inf])
def test_a_number_off_the_scale_is_a_failure(score):
    scored = mix(Given("rule", [score, 3])).score([answer()] * 2)
    assert scored.parts["rule"] == [None, 3]
    assert scored.combined == [None, 3]


def test_a_channel_has_the_mean_of_its_own_rewards_and_of_those_for_both():
    rewards = (
        Given("rule", [5], "text"),
        Given("delivery", [2], "speech"),
        Given("intelligibility", [4], "speech"),
        Given("judge", [3], "both"),
        Given("format", [1], "format"),
    )
    weights = {"rule": 1, "delivery": 2, "intelligibility": 1, "judge": 1, "format": 1}
    mixed = mix(*rewards, weights=weights, **JUDGED)
    scored = mixed.score([answer()])
    assert mixed.names_for("speech") == ("delivery", "intelligibility", "judge")
    # text (5 + 3) / 2 = 4; speech (2 * 2 + 4 + 3) / 4 = 2.75; format 1; together (5 + 4 + 4 + 3 + 1) / 6 = 17 / 6
    assert mixed.combined_for("text", scored) == [4]
    assert mixed.combined_for("speech", scored) == [2.75]
    assert mixed.combined_for("format", scored) == [1]
    assert scored.combined == pytest.approx([17 / 6])


def test_a_failed_judge_fails_its_channels_only():
    rewards = (Given("rule", [5], "text"), Given("judge_acoustic", [None], "speech"))
    mixed = mix(*rewards, **JUDGED)
    scored = mixed.score([answer()])
    assert mixed.combined_for("text", scored) == [5]
    assert mixed.combined_for("speech", scored) == [None]


def test_a_channel_that_no_reward_judges_teaches_nothing():
    mixed = mix(Given("rule", [5, 3]))
    assert mixed.combined_for("speech", mixed.score([answer()] * 2)) == [None, None]


def test_too_many_failures_stop_with_a_reason():
    # 3 of 4 is above a half; the window must be full first.
    mixed = mix(Given("rule", [None, None, 3, None]), max_failed_share=0.5, failure_window=4)
    assert mixed.score([answer()] * 3).failures == {"rule": 2}
    with pytest.raises(TooManyFailures, match='"rule" failed for 3 of the last 4'):
        mixed.score([answer()])


def test_failures_that_are_allowed_or_long_ago_do_not_stop():
    mixed = mix(Given("rule", [None, None, 3, 3, 3, None]), max_failed_share=0.5, failure_window=4)
    for _ in range(6):
        mixed.score([answer()])


def test_a_reward_that_does_not_count_cannot_stop_the_run():
    weights = {"rule": 1, "judge": 0}
    mixed = mix(Given("rule", [3] * 9), Given("judge", [None] * 9), weights=weights, failure_window=3, **JUDGED)
    assert mixed.score([answer()] * 9).combined == [3] * 9


def test_the_memory_of_failures_survives_a_resume():
    settings = {"max_failed_share": 0.5, "failure_window": 4}
    before = mix(Given("rule", [None, None, 3]), **settings)
    before.score([answer()] * 3)
    after = mix(Given("rule", [None]), **settings)
    after.restore(before.state())
    with pytest.raises(TooManyFailures):
        after.score([answer()])


def test_a_reward_must_score_every_reply():
    class Short(Given):
        def score(self, answers):
            return [3.0]

    with pytest.raises(RewardError, match="gave 1 scores for 2 replies"):
        mix(Short("rule", [])).score([answer()] * 2)


def test_an_interruption_tells_the_other_rewards_to_give_up(tmp_path):
    context = RewardContext(tmp_path)

    class Waits(Given):
        def score(self, answers):
            assert context.stop.wait(30)
            return [None for _ in answers]

    class Breaks(Given):
        def score(self, answers):
            raise RewardError("broken")

    config = RewardConfig(weights={"rule": 1, "format": 1})
    with pytest.raises(RewardError, match="broken"):
        RewardMix([Breaks("rule", []), Waits("format", [])], config, context.stop).score([answer()])


def test_no_replies_need_no_rewards():
    scored = mix(Given("rule", [])).score([])
    assert scored.combined == []


def test_audio_is_needed_when_any_reward_needs_it(tmp_path):
    context = RewardContext(tmp_path)
    assert not RewardMix.of(RewardConfig(weights={"rule": 1, "format": 1}), context).needs_audio
    assert RewardMix.of(RewardConfig(weights={"judge": 1}, **JUDGED), context).needs_audio


def test_a_mix_from_a_config_scores_with_its_rewards(tmp_path):
    mixed = RewardMix.of(RewardConfig(weights={"rule": 3, "format": 1}), RewardContext(tmp_path))
    # rule 5 and format 1: (3 * 5 + 1) / 4 = 4
    assert mixed.score([answer("seven plus five is twelve", finished=False)]).combined == [4]


def test_a_config_names_what_is_wrong():
    for weights, message in (({"beauty": 1}, "There is no reward"), ({"rule": -1}, "0 or more"), ({}, "at least one")):
        with pytest.raises(ValidationError, match=message):
            RewardConfig(weights=weights)
    with pytest.raises(ValidationError, match="above 0"):
        RewardConfig(weights={"rule": 0})
    with pytest.raises(ValidationError, match="judgement"):
        RewardConfig(judgement="x")


def test_every_reward_in_the_registry_is_there():
    import importlib

    for target in REWARDS.values():
        module, _, attribute = target.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))


JUDGED = {"judge": {"url": "http://127.0.0.1:9/v1", "model": "m"}}
