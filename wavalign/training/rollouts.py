"""Replies sampled from the policy and their rewards, for the prompts of one step."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from wavalign.audio import Waveform
from wavalign.models.protocol import Rollout, Sampling, TrainablePolicy
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.protocol import Answer, Judged
from wavalign.training.config import ConfigError, RolloutConfig
from wavalign.training.examples import Example

_SEED_STREAM = 0x5EED


def step_seed(seed: int, step: int) -> int:
    """The sampling seed of a step: a pure function of the run's seed and the step, the same in every process.

    The sampler adds the prompt's number in the global batch and the reply's number in its group.
    """
    return int(np.random.SeedSequence([_SEED_STREAM, seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass
class Group:
    """The replies to one prompt, and what was made of them."""

    example: Example
    prompt: list[int]
    rollouts: list[Rollout]
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Rewarded:
    """Groups with their rewards. Arrays are float (P, K), NaN where a reward failed.

    ``combined`` is the weighted mean of all rewards, ``channel`` that of the rewards which judge a channel, ``parts``
    each reward's own scores. ``failed`` is bool (P, K) for each reward: one that was not asked about a reply, since
    nobody was to hear it, has NaN there and has not failed.
    """

    groups: list[Group]
    combined: np.ndarray
    channel: Mapping[Judged, np.ndarray]
    parts: Mapping[str, np.ndarray]
    failed: Mapping[str, np.ndarray]


class Sampler:
    """Samples groups from one checkpoint of ``policy``, decodes them where rewards must hear them, and scores them.

    ``seconds`` sums the wall time of each phase since it was last cleared.

    Raises:
        ConfigError: when replies are to end with their text that a reward must hear.
    """

    def __init__(
        self, policy: TrainablePolicy, checkpoint: str, config: RolloutConfig, rewards: RewardMix, text_only: bool
    ) -> None:
        if config.spoken is not None:
            for reward in rewards.rewards:
                if reward.needs_audio and reward.channel != "speech" and rewards.weights[reward.name] > 0:
                    raise ConfigError(
                        f'rollouts.spoken leaves replies unheard, but the reward "{reward.name}" judges words by their '
                        "sound; take spoken or that reward away."
                    )
        self.policy = policy
        self.checkpoint = checkpoint
        self.config = config
        self.rewards = rewards
        self.text_only = text_only
        self.seconds: dict[str, float] = {}

    def sample(self, examples: Sequence[Example], group_size: int, seed: int, first: int) -> list[Group]:
        """``group_size`` replies to each example; ``first`` is the number of the first one in the global batch."""
        started = time.perf_counter()
        config = self.config
        sampling = Sampling(
            temperature=config.temperature,
            speech_temperature=config.speech_temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            max_seconds=config.max_seconds,
            seed=seed,
        )
        prompts = [self.policy.encode_prompt(example.prompt) for example in examples]
        at_once = max(1, config.rows_at_once // group_size)
        groups: list[Group] = []
        for start in range(0, len(prompts), at_once):
            batch = prompts[start : start + at_once]
            sampled = self.policy.sample_groups(
                batch,
                group_size,
                sampling,
                checkpoint=self.checkpoint,
                first=first + start,
                text_only=self.text_only,
                spoken=config.spoken,
            )
            groups += [
                Group(example, prompt, rollouts)
                for example, prompt, rollouts in zip(examples[start : start + at_once], batch, sampled, strict=True)
            ]
        self._took("sampling", started)
        return groups

    def reward(self, groups: Sequence[Group]) -> Rewarded:
        """Decodes what has to be heard, then asks every reward."""
        started = time.perf_counter()
        self.answer(groups)
        self._took("decoding", started)
        started = time.perf_counter()
        answers = [answer for group in groups for answer in group.answers]
        scored = self.rewards.score(answers)
        shape = (len(groups), -1)
        channels: tuple[Judged, ...] = ("text", "speech", "format")
        result = Rewarded(
            list(groups),
            _array(scored.combined).reshape(shape),
            {name: _array(self.rewards.combined_for(name, scored)).reshape(shape) for name in channels},
            {name: _array(scores).reshape(shape) for name, scores in scored.parts.items()},
            {
                name: (np.isnan(_array(scores)) & np.array(scored.asked[name])).reshape(shape)
                for name, scores in scored.parts.items()
            },
        )
        self._took("rewards", started)
        return result

    def answer(self, groups: Sequence[Group]) -> None:
        """Fills in the groups' answers: text always, a waveform where a reward needs audio."""
        spoken = self.config.spoken
        flat = [
            (group, rollout, self.text_only or (spoken is not None and k >= spoken))
            for group in groups
            for k, rollout in enumerate(group.rollouts)
        ]
        waveforms: list[Waveform | None] = [None] * len(flat)
        if self.rewards.needs_audio:
            heard = [place for place, (_, _, cut) in enumerate(flat) if not cut]
            with ThreadPoolExecutor() as pool:
                decoded = pool.map(lambda place: self.policy.decode_speech(flat[place][1].tokens), heard)
                for place, waveform in zip(heard, decoded, strict=True):
                    waveforms[place] = waveform
        for group in groups:
            group.answers = []
        for (group, rollout, cut), waveform in zip(flat, waveforms, strict=True):
            group.answers.append(
                Answer(
                    group.example,
                    self.policy.text_of(rollout.tokens),
                    waveform,
                    rollout.finished,
                    self.policy.well_formed(rollout.tokens, whole=rollout.finished and not cut),
                    cut,
                )
            )

    def _took(self, phase: str, started: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started


def _array(scores: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if score is None else score for score in scores], dtype=float)
