"""Some replies of a group are spoken to their end and heard, the others end with their text and teach words only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.rewards.replies import answer
from tests.training.tiny_run import small
from wavalign.models.protocol import Sampling
from wavalign.models.registry import Registry
from wavalign.rewards.combine import RewardMix, TooManyFailures
from wavalign.rewards.config import RewardConfig
from wavalign.training.config import ConfigError
from wavalign.training.config_files import make_config
from wavalign.training.journal import read_lines, read_metrics
from wavalign.training.loop import Trainer
from wavalign.training.mixing import WavAlignMix

ROUTED = {"method": {"kind": "hybrid", "preference": {"scope": "routed"}, "mix_per_channel": True}}


class Heard:
    """A reward of speech that counts what it is asked, and fails on demand."""

    name, needs_audio, channel = "delivery", True, "speech"

    def __init__(self, score: float | None) -> None:
        self.given, self.seen = score, 0

    def score(self, answers):
        self.seen += len(answers)
        return [self.given] * len(answers)


def test_the_first_replies_of_a_group_are_the_whole_ones(assets: Path) -> None:
    model = Registry(assets).load(["tiny-base"])
    sampling = Sampling(temperature=1.0, max_tokens=40, seed=3)
    prompts = [[5, 6, 7], [8, 9, 10]]
    whole = model.sample_groups(prompts, 4, sampling)
    some = model.sample_groups(prompts, 4, sampling, spoken=2)
    words = model.sample_groups(prompts, 4, sampling, text_only=True)
    for a, b, c in zip(whole, some, words, strict=True):
        assert [r.tokens for r in b] == [r.tokens for r in a[:2]] + [r.tokens for r in c[2:]]


def test_a_cut_reply_is_not_asked_about_and_has_not_failed() -> None:
    reward = Heard(4.0)
    mix = RewardMix([reward], RewardConfig(weights={"delivery": 1.0}))
    whole, cut = answer(), answer(cut=True)
    scored = mix.score([cut, whole, cut])
    assert scored.parts == {"delivery": [None, 4.0, None]}
    assert scored.combined == [None, 4.0, None]
    assert scored.failures == {"delivery": 0}
    assert reward.seen == 1


def test_cut_replies_do_not_hide_that_a_reward_fails() -> None:
    mix = RewardMix([Heard(None)], RewardConfig(weights={"delivery": 1.0}, failure_window=4))
    for _ in range(3):
        mix.score([answer(), answer(cut=True)])
    with pytest.raises(TooManyFailures):
        mix.score([answer(), answer(cut=True)])


def test_words_learn_from_all_replies_and_speech_from_the_heard_ones(assets: Path, tmp_path: Path) -> None:
    settings = {"group_size": 4, "spoken": 2, "max_tokens": 40, "max_seconds": 2.0}
    trainer = Trainer(small("alpo-anchored", rollouts=settings, **ROUTED), tmp_path, assets, quiet=True)
    trainer.run()
    for line in read_metrics(tmp_path):
        assert line["rewards/delivery/failed_frac"] == 0
        assert line["rewards/letters/failed_frac"] == 0
    assert not [e for e in read_lines(tmp_path / "events.jsonl") if e["event"] == "failed rewards"]
    (group,) = trainer.sampler.sample(trainer.data[:1], 4, 0, 0)
    rewarded = trainer.sampler.reward([group])
    assert [answer.waveform is None for answer in group.answers] == [False, False, True, True]
    assert np.isfinite(rewarded.channel["speech"][0]).tolist() == [True, True, False, False]
    assert np.isfinite(rewarded.channel["text"][0]).all()


def test_speech_may_have_a_rule_of_its_own(assets: Path, tmp_path: Path) -> None:
    method = {**ROUTED["method"], "mix_speech": {"kind": "fixed", "rl": 0.25}}
    Trainer(small("alpo-anchored", method=method), tmp_path, assets, quiet=True).run()
    lines = read_metrics(tmp_path)
    assert all(line["mix/lambda_speech"] == 0.25 for line in lines)
    assert all("mix/lambda_raw_text" in line for line in lines)


def test_an_information_gate_opens_at_the_variance_that_it_is_given() -> None:
    rewards = np.array([[4.0, 5.0, 4.0, 5.0]])  # variance 0.25
    assert WavAlignMix().gates(rewards)[1] == pytest.approx([0.25 / 4])
    assert WavAlignMix(variance=0.5).gates(rewards)[1] == pytest.approx([0.5])
    assert WavAlignMix(variance=0.1).gates(rewards)[1] == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rollouts": {"group_size": 4, "spoken": 5}, **ROUTED}, "rollouts.spoken is 5"),
        ({"rollouts": {"spoken": 2}}, "routed"),
        ({"method": {"kind": "hybrid", "mix_speech": {"kind": "fixed"}}}, "mix_per_channel"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(changes)
