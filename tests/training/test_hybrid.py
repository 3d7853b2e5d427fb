"""What reaches which token: channels, failures, demonstrations, and batches that are spread over processes."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wavalign.dialogue import Dialogue, Turn
from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.protocol import Rollout
from wavalign.training.batch import flatten
from wavalign.training.channels import channels_of, mask_of
from wavalign.training.config import Anchor, HybridMethod, PolicyGradient
from wavalign.training.examples import Example
from wavalign.training.hybrid import Hybrid
from wavalign.training.mixing import ChordMix, FixedMix, WavAlignMix
from wavalign.training.plan import Plan, Scores
from wavalign.training.rollouts import Group, Rewarded
from wavalign.training.world import Alone

NAN = float("nan")
END, TURN_END = 8, 9
VOCABULARY = 30


class Policy:
    """Ids below 8 are words, 8 ends the text, 9 the turn, 10 and more are speech."""

    text_end = END

    def channel_of(self, ids: Sequence[int]) -> np.ndarray:
        ids = np.asarray(ids)
        return np.where(ids < 8, 0, np.where(ids < 10, 2, 1)).astype(np.int8)

    def encode_prompt(self, dialogue: Dialogue) -> list[int]:
        return [1, 2]

    def encode_target(self, text: str, speech: Sequence[int]) -> list[int]:
        return [*map(int, text.split()), END, *speech, TURN_END]


def example(id_: str = "a", text: str = "1 2", speech: tuple[int, ...] = (11, 12, 13)) -> Example:
    return Example(id_, Dialogue((Turn("user", text="?"),)), target_text=text, target_speech=speech)


def rewarded(completions: list[list[list[int]]], rewards: list[list[float]], **channels) -> Rewarded:
    groups = [
        Group(example(str(p)), [1, 2], [Rollout(tuple(c), np.zeros(len(c), np.float32), True) for c in group])
        for p, group in enumerate(completions)
    ]
    values = np.array(rewards, float)
    routed = {
        name: np.array(channels.get(name, np.full(values.shape, NAN)), float) for name in ("text", "speech", "format")
    }
    return Rewarded(groups, values, routed, {"rule": values}, {"rule": np.isnan(values)})


def method(scope: str = "text", mix=None, **settings) -> Hybrid:
    config = HybridMethod(preference=PolicyGradient(scope=scope, **settings), mix=mix or FixedMix(rl=1.0))
    return Hybrid(config, Policy(), group_size=2, longest=10)


def plan_of(hybrid: Hybrid, replies: Rewarded | None, examples: list[Example] | None = None, world=None) -> Plan:
    examples = examples or [group.example for group in replies.groups]
    return hybrid.plan(0, examples, replies, world or Alone())


def loss_of(hybrid: Hybrid, plan: Plan, seed: int = 0):
    """The loss on random logits, the logits' gradient (N, V), and the flat columns."""
    flat = flatten(plan.units, torch.device("cpu"))
    targets = torch.tensor([c.tokens[i] for unit in plan.units for c in unit.completions for i in c.wanted])
    logits = torch.randn(len(targets), VOCABULARY, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    logp, entropy = chosen_logprobs(logits, targets)
    loss = hybrid.loss(flat, Scores(logp, entropy), plan)
    loss.value.backward()
    return loss, logits.grad, flat


REPLIES = [[[3, 4, END, 11, 12, TURN_END], [5, END, 14, 15, 16, TURN_END]]]


def test_the_mark_that_ends_the_text_is_chosen_among_words():
    assert channels_of(Policy(), [3, END, 11, TURN_END]).tolist() == [0, 0, 1, 2]


def test_a_scope_without_tokens_is_empty():
    assert not mask_of(channels_of(Policy(), [11, 12]), "text").any()


def test_weights_of_a_text_only_group_by_hand():
    """Rewards 5 and 1: advantages +-2 / (2 + 1e-4). Texts of 3 and 2 tokens: weights 1/6 and 1/4 each."""
    plan = plan_of(method(), rewarded(REPLIES, [[5, 1]]))
    first, second = plan.units[0].completions
    a = 2 / (2 + 1e-4)
    assert first.gain.tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 0, 0, 0])
    assert second.gain.tolist() == pytest.approx([1 / 4, 1 / 4, 0, 0, 0, 0])
    assert first.advantage[:3].tolist() == pytest.approx([a] * 3)
    assert second.advantage[:2].tolist() == pytest.approx([-a] * 2)
    assert first.wanted.tolist() == [0, 1, 2]


def test_the_preference_term_leaves_the_logits_of_speech_alone():
    """Wanted or not: even where speech is scored (for its divergence), a text-only reward has no slope there."""
    hybrid = method()
    plan = plan_of(hybrid, rewarded(REPLIES, [[5, 1]]))
    for completion in plan.units[0].completions:
        completion.divergence[:] = 1e-9  # asks for the log-probabilities of every token
    _, slope, flat = loss_of(hybrid, plan)
    assert (flat.channel == 1).sum() == 5
    assert (slope[flat.channel == 1] == 0).all()
    assert (slope[flat.channel == 2] == 0).all()
    assert (slope[flat.channel == 0] != 0).any(-1).all()


def test_demonstrations_reach_both_channels():
    hybrid = method(mix=FixedMix(rl=0.0))
    _, slope, flat = loss_of(hybrid, plan_of(hybrid, None, [example()]))
    assert set(flat.channel.tolist()) == {0, 1, 2}
    assert (slope != 0).any(-1).all()


def test_an_empty_text_gives_a_preference_term_of_exactly_zero():
    hybrid = method()
    plan = plan_of(hybrid, rewarded([[[11, 12, TURN_END], [13, TURN_END]]], [[5, 1]]))
    assert all(len(c.wanted) == 0 for unit in plan.units for c in unit.completions)
    flat = flatten(plan.units, torch.device("cpu"))
    nothing = torch.zeros(0, requires_grad=True)
    loss = hybrid.loss(flat, Scores(nothing, nothing.detach()), plan)
    assert loss.value.item() == 0.0
    assert loss.sums["loss/rl"] == 0.0


def test_no_variance_gives_no_gradient_and_a_lambda_of_zero():
    hybrid = method(mix=WavAlignMix())
    plan = plan_of(hybrid, rewarded(REPLIES, [[3, 3]]))
    assert plan.metrics["mix/lambda"] == 0.0
    assert all((c.advantage == 0).all() for c in plan.units[0].completions)
    target = plan.units[0].completions[-1]
    assert target.demonstration.sum() == pytest.approx(1.0)


def test_a_failed_reward_is_in_no_mean_and_moves_nothing():
    """The rest of the group learns as if the failed reply had not been sampled."""
    three = [[*REPLIES[0], [6, 7, END, 17, TURN_END]]]
    with_failure = plan_of(method(mix=WavAlignMix()), rewarded(three, [[5, 1, NAN]]))
    without = plan_of(method(mix=WavAlignMix()), rewarded(REPLIES, [[5, 1]]))
    assert with_failure.metrics["mix/lambda"] == without.metrics["mix/lambda"]
    for mine, other in zip(with_failure.units[0].completions[:2], without.units[0].completions[:2], strict=True):
        assert mine.gain.tolist() == other.gain.tolist()
        assert mine.advantage.tolist() == other.advantage.tolist()
        assert mine.mix.tolist() == other.mix.tolist()
    assert (with_failure.units[0].completions[2].gain == 0).all()
    assert with_failure.metrics["rewards/rule/failed_frac"] == pytest.approx(1 / 3)


def test_routed_channels_learn_from_their_own_rewards():
    """Text prefers the first reply, speech the second, format is alike: each token moves its own way."""
    replies = rewarded(REPLIES, [[3, 3]], text=[[5, 1]], speech=[[1, 5]], format=[[5, 5]])
    plan = plan_of(method("routed", speech_weight=0.5), replies)
    first, second = plan.units[0].completions
    a = 2 / (2 + 1e-4)
    assert first.advantage.tolist() == pytest.approx([a, a, a, -a, -a, 0])
    assert second.advantage.tolist() == pytest.approx([-a, -a, a, a, a, 0])
    assert first.gain.tolist() == pytest.approx([1 / 6] * 3 + [0.5 / 4] * 2 + [1 / 2])


def test_each_channel_may_have_a_lambda_of_its_own():
    config = HybridMethod(preference=PolicyGradient(scope="routed"), mix=WavAlignMix(), mix_per_channel=True)
    hybrid = Hybrid(config, Policy(), 2, 10)
    replies = rewarded(REPLIES, [[3, 3]], text=[[5, 1]], speech=[[3, 3]], format=[[5, 5]])
    plan = plan_of(hybrid, replies)
    first, _, target = plan.units[0].completions
    assert plan.metrics["mix/lambda_text"] == pytest.approx(0.8, abs=1e-4)
    assert plan.metrics["mix/lambda_speech"] == 0
    assert plan.metrics["mix/lambda"] == plan.metrics["mix/lambda_text"]
    assert plan.metrics["mix/info_gate"] == plan.metrics["mix/info_gate_text"]
    assert first.mix.tolist() == pytest.approx([0.8] * 3 + [0] * 2 + [0.8], abs=1e-4)
    # Six tokens: words and marks keep a fifth of their weight, speech all of it.
    share = np.where(target.channels == 1, 1.0, 0.2) / len(target.tokens)
    assert target.demonstration == pytest.approx(share, abs=1e-4)


def test_anchors_are_normalised_as_asked():
    """Targets of 2 words, 2 marks and 3 speech tokens, and of 1, 2 and 1: 11 tokens, 4 of them speech."""
    examples = [example("a"), example("b", "1", (11,))]
    expected = {
        "tokens": ([1 / 11] * 7, [1 / 11] * 4),
        "sequence": ([1 / 14] * 7, [1 / 8] * 4),
    }
    for normalise, weights in expected.items():
        config = HybridMethod(anchor=Anchor(normalise=normalise), mix=FixedMix(rl=0.0))
        plan = plan_of(Hybrid(config, Policy(), 2, 10), None, examples)
        for unit, each in zip(plan.units, weights, strict=True):
            assert unit.completions[0].demonstration.tolist() == pytest.approx(each)
    config = HybridMethod(anchor=Anchor(normalise="channel", speech_weight=2.0), mix=FixedMix(rl=0.0))
    plan = plan_of(Hybrid(config, Policy(), 2, 10), None, examples)
    assert plan.units[1].completions[0].demonstration.tolist() == pytest.approx([1 / 7, 1 / 7, 2 / 4, 1 / 7])


def test_an_example_without_a_target_is_no_anchor():
    bare = Example("bare", Dialogue((Turn("user", text="?"),)))
    plan = plan_of(method(mix=FixedMix(rl=0.0)), None, [bare, example()])
    assert [len(unit.completions) for unit in plan.units] == [1]


def test_chord_weighs_each_demonstrated_token_by_p_times_one_minus_p():
    hybrid = method(mix=ChordMix(anchor=1.0))
    plan = plan_of(hybrid, rewarded(REPLIES, [[3, 3]]))
    p = torch.tensor([0.5, 0.9, 0.5, 0.9, 0.5, 0.9, 0.5])
    flat = flatten(plan.units, torch.device("cpu"))
    logp = torch.zeros(len(flat.row))
    logp[flat.target] = p.log()[: int(flat.target.sum())]
    loss = hybrid.loss(flat, Scores(logp, torch.zeros_like(logp)), plan)
    count = int(flat.target.sum())
    assert loss.value.item() == pytest.approx(float((-(p.log()) * p * (1 - p))[:count].sum()) / count)


def test_chord_of_one_channel_leaves_the_other_as_it_is():
    """Text 1 2 END, speech 11 12 13, TURN_END: with chord on speech alone, only its tokens weigh p (1 - p) = 0.09."""
    routed = PolicyGradient(scope="routed")
    config = HybridMethod(
        preference=routed, mix=FixedMix(rl=0.0), mix_per_channel=True, mix_speech=ChordMix(anchor=1.0)
    )
    hybrid = Hybrid(config, Policy(), group_size=2, longest=10)
    plan = plan_of(hybrid, rewarded(REPLIES, [[3, 3]], text=[[3, 3]], speech=[[3, 3]]))
    flat = flatten(plan.units, torch.device("cpu"))
    logp = torch.where(flat.target, math.log(0.9), 0.0)
    loss = hybrid.loss(flat, Scores(logp, torch.zeros_like(logp)), plan)
    assert loss.value.item() == pytest.approx(-math.log(0.9) * (4 + 3 * 0.09) / 7)


def test_each_channel_is_held_by_its_own_count_unless_all_tokens_are_one_term():
    """Words of 3 and 2 tokens, speech of 2 and 3; two replies."""

    def held(scope: str) -> list[list[float]]:
        plan = plan_of(method(scope, kl_text=0.1, kl_speech=0.2), rewarded(REPLIES, [[5, 1]]))
        return [completion.divergence.tolist() for completion in plan.units[0].completions[:2]]

    first, second = held("text")
    assert first == pytest.approx([0.1 / 6] * 3 + [0.2 / 4] * 2 + [0])
    assert second == pytest.approx([0.1 / 4] * 2 + [0.2 / 6] * 3 + [0])
    first, second = held("all")
    assert first == pytest.approx([0.1 / 10] * 3 + [0.2 / 10] * 2 + [0])
    assert second == pytest.approx([0.1 / 10] * 2 + [0.2 / 10] * 3 + [0])


def test_dapo_leaves_groups_without_differences_out_of_its_mean():
    """Texts of 3 and 2 tokens learn; the other group's tokens are not counted: 1/5 each."""
    replies = rewarded([*REPLIES, *REPLIES], [[5, 1], [4, 4]])
    plan = plan_of(method(objective="dapo"), replies)
    assert plan.units[0].completions[0].gain[:3].tolist() == pytest.approx([1 / 5] * 3)
    assert all((c.gain == 0).all() for unit in plan.units[1:] for c in unit.completions)


class Pretended:
    """A world of threads."""

    def __init__(self, rank: int, size: int, shared: SimpleNamespace) -> None:
        self.rank, self.size, self.shared = rank, size, shared

    def gather(self, value):
        self.shared.values[self.rank] = value
        self.shared.barrier.wait()
        values = list(self.shared.values)
        self.shared.barrier.wait()
        return values


@pytest.mark.parametrize("objective", ["grpo", "dapo", "dr_grpo"])
def test_two_processes_weigh_their_tokens_as_one_would(objective: str):
    """Unequal shares of text, a failure and a uniform group: the union of two halves is the whole."""
    completions = [[[3, END, 11, TURN_END], [4, 5, 6, END, 12, TURN_END]], [[END, 13], [3, 4, END, 14, 15, TURN_END]]]
    rewards = [[5.0, 1.0], [NAN, 3.0]]
    settings = {"objective": objective, "mix": WavAlignMix()}

    def numbers(plan: Plan) -> list[list[float]]:
        columns = ("gain", "mix", "advantage", "demonstration")
        return [getattr(c, name).tolist() for unit in plan.units for c in unit.completions for name in columns]

    replies = rewarded(completions, rewards)
    whole = plan_of(method(**settings), replies)
    shared = SimpleNamespace(values=[None, None], barrier=threading.Barrier(2))
    plans: list[Plan | None] = [None, None]

    def part(rank: int) -> None:
        own = rewarded(completions[rank : rank + 1], rewards[rank : rank + 1])
        plans[rank] = plan_of(method(**settings), own, world=Pretended(rank, 2, shared))

    threads = [threading.Thread(target=part, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(plans[0]) + numbers(plans[1]) == numbers(whole)
    assert plans[0].metrics == plans[1].metrics == whole.metrics


def test_speech_may_learn_from_the_better_replies_alone():
    # Speech rewards 5, 3, 1: z-scores (+1, 0, -1) * sqrt(3/2); words keep both signs.
    replies = [[[1, 2, END, 11, 12, TURN_END], [3, END, 13, 14, TURN_END], [4, END, 15, 16, TURN_END]]]
    values = rewarded(replies, [[5, 3, 1]], text=[[1, 3, 5]], speech=[[5, 3, 1]])
    z = (3 / 2) ** 0.5
    for factor, lowest in ((1.0, -z), (0.5, -z / 2), (0.0, 0.0)):
        hybrid = method("routed", speech_negative=factor)
        best, middle, worst = (c.advantage for c in plan_of(hybrid, values).units[0].completions[:3])
        assert best[3:5] == pytest.approx([z, z], rel=1e-3)
        assert middle[2:4] == pytest.approx([0, 0])
        assert worst[2:4] == pytest.approx([lowest, lowest], rel=1e-3)
        assert best[0] == pytest.approx(-z, rel=1e-3)
        assert worst[0] == pytest.approx(z, rel=1e-3)
