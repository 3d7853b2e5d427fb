"""DPO: which replies become a pair, which tokens are compared, and the loss by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.training.test_hybrid import END, REPLIES, TURN_END, Policy, example, rewarded
from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.registry import RewardContext
from wavalign.training.batch import flatten
from wavalign.training.config import ConfigError, PreferenceMethod
from wavalign.training.examples import Example
from wavalign.training.pairs import PairConfig
from wavalign.training.plan import Plan, Scores
from wavalign.training.preference import Preference, refuse_unpaired
from wavalign.training.world import Alone


def plan_of(config: PreferenceMethod, replies=None, examples=None) -> tuple[Preference, Plan]:
    preference = Preference(config, Policy())
    examples = examples or [group.example for group in replies.groups]
    return preference, preference.plan(0, examples, replies, Alone())


def loss_of(preference: Preference, plan: Plan, logp: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    flat = flatten(plan.units, torch.device("cpu"))
    return preference.loss(flat, Scores(logp, torch.zeros_like(logp), None, reference), plan).value


def test_the_best_reply_stands_against_the_worst():
    replies = rewarded(REPLIES, [[3, 3]], text=[[1, 5]], speech=[[3, 3]])
    _, plan = plan_of(PreferenceMethod(), replies)
    chosen, rejected = plan.units[0].completions
    assert (chosen.side, rejected.side) == (1, -1)
    assert list(chosen.tokens) == REPLIES[0][1]
    assert list(rejected.tokens) == REPLIES[0][0]


def test_pairs_need_a_reward_for_each_channel_that_counts(tmp_path: Path):
    words = RewardMix.of(RewardConfig(weights={"answer": 1.0}), RewardContext(tmp_path))
    with pytest.raises(ConfigError, match=r"acoustic scores too .*judges speech"):
        refuse_unpaired(PreferenceMethod(), words)
    refuse_unpaired(PreferenceMethod(pairs=PairConfig(semantic_weight=1.0)), words)
    refuse_unpaired(PreferenceMethod(source="data"), words)


def test_replies_that_are_too_alike_are_no_pair():
    replies = rewarded(REPLIES, [[3, 3]], text=[[3, 3.5]], speech=[[3, 3]])
    _, plan = plan_of(PreferenceMethod(), replies)
    assert plan.units == []
    assert plan.metrics["pairs"] == 0


def test_the_loss_on_words_by_hand():
    """Chosen text (2 tokens): policy -1 - 1, reference -1.5 - 1.5: +1. Rejected (3): -2 each against -1: -3.

    gamma .1 times 1 + 3 = .4: log(1 + exp(-.4)) = 0.513015.
    """
    replies = rewarded(REPLIES, [[3, 3]], text=[[1, 5]], speech=[[3, 3]])
    preference, plan = plan_of(PreferenceMethod(), replies)
    logp = torch.tensor([-1.0, -1.0, -2.0, -2.0, -2.0], requires_grad=True)
    reference = torch.tensor([-1.5, -1.5, -1.0, -1.0, -1.0])
    assert [c.wanted.tolist() for c in plan.units[0].completions] == [[0, 1], [0, 1, 2]]
    loss = loss_of(preference, plan, logp, reference)
    assert loss.item() == pytest.approx(0.513015, abs=1e-6)
    loss.backward()
    slope = 0.1 / (1 + math.exp(0.4))
    assert logp.grad.tolist() == pytest.approx([-slope] * 2 + [slope] * 3)


def test_all_tokens_may_be_compared():
    replies = rewarded(REPLIES, [[3, 3]], text=[[1, 5]], speech=[[3, 3]])
    _, plan = plan_of(PreferenceMethod(scope="all"), replies)
    assert [len(c.wanted) for c in plan.units[0].completions] == [6, 6]


def test_the_loss_is_the_mean_over_pairs():
    replies = rewarded(REPLIES * 2, [[3, 3]] * 2, text=[[1, 5], [5, 1]], speech=[[3, 3]] * 2)
    preference, plan = plan_of(PreferenceMethod(), replies)
    same = torch.full((10,), -1.0)
    assert loss_of(preference, plan, same, same).item() == pytest.approx(math.log(2))


def test_pairs_of_the_data_and_an_anchor():
    turn = Dialogue((Turn("user", text="?"),))
    both = Example("x", turn, "1 2", (11, 12), rejected_text="3", rejected_speech=(13,))
    _, plan = plan_of(PreferenceMethod(source="data", anchor_weight=0.5), examples=[both, example("y")])
    first, second = plan.units
    assert [c.side for c in first.completions] == [1, -1, 0]
    assert list(first.completions[1].tokens) == [3, END, 13, TURN_END]
    assert [c.side for c in second.completions] == [0]
    total = sum(c.demonstration.sum() for unit in plan.units for c in unit.completions)
    assert total == pytest.approx(0.5)
