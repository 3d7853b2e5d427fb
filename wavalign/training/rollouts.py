"""Replies sampled from the policy and their rewards, for the prompts of one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from wavalign.audio import Waveform
from wavalign.models.protocol import Rollout, Sampling, TrainablePolicy
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.protocol import Answer, Judged, Span
from wavalign.training.config import ConfigError, RolloutConfig
from wavalign.training.examples import Example

_SEED_STREAM = 0x5EED


def step_seed(seed: int, step: int) -> int:
    """The sampling seed of a step: a pure function of the run's seed and the step, the same in every process.

    The sampler adds the prompt's number in the global batch and the reply's number in its group.
    """
    return int(np.random.SeedSequence([_SEED_STREAM, seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class RolloutSource(Protocol):
    """Who draws replies."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        sampling: Sampling,
        first: int,
        text_only: bool,
        spoken: int | None,
    ) -> list[list[Rollout]]:
        """``group_size`` replies to each prompt; see ``TrainablePolicy.sample_groups``. One that did not come has no
        tokens."""


class Local:
    """The policy's checkpoint in this process, ``rows_at_once`` replies in one batch.

    ``gathered`` brings together weights that are shared out among processes.
    """

    def __init__(
        self,
        policy: TrainablePolicy,
        checkpoint: str,
        rows_at_once: int,
        gathered: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.policy, self.checkpoint, self.rows_at_once, self.gathered = policy, checkpoint, rows_at_once, gathered

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        sampling: Sampling,
        first: int,
        text_only: bool,
        spoken: int | None,
    ) -> list[list[Rollout]]:
        at_once = max(1, self.rows_at_once // group_size)
        groups: list[list[Rollout]] = []
        with self.gathered():
            for start in range(0, len(prompts), at_once):
                groups += self.policy.sample_groups(
                    prompts[start : start + at_once],
                    group_size,
                    sampling,
                    checkpoint=self.checkpoint,
                    first=first + start,
                    text_only=text_only,
                    spoken=spoken,
                )
        return groups


@dataclass
class Group:
    """The replies to one prompt, and what was made of them: an answer for each reply that came."""

    example: Example
    prompt: list[int]
    rollouts: list[Rollout]
    answers: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Rewarded:
    """Groups with their rewards. Arrays are float (P, K), NaN where a reward failed.

    ``combined`` is the weighted mean of all rewards, ``channel`` that of the rewards which judge a channel, ``parts``
    each reward's own scores. ``failed`` is bool (P, K) for each reward: one that was not asked about a reply, since
    nobody was to hear it or it never came, has NaN there and has not failed.

    ``spans`` are the parts of each reply that a reward told apart in time, by group and reply; ``shares`` what each
    reward counts among those that judge its channel, in sum 1.
    """

    groups: list[Group]
    combined: np.ndarray
    channel: Mapping[Judged, np.ndarray]
    parts: Mapping[str, np.ndarray]
    failed: Mapping[str, np.ndarray]
    spans: Mapping[str, list[list[tuple[Span, ...]]]] = field(default_factory=dict)
    shares: Mapping[Judged, Mapping[str, float]] = field(default_factory=dict)


class Sampler:
    """Samples groups from ``source``, decodes them where rewards must hear them, and scores them.

    ``seconds`` sums the wall time of each phase since it was last cleared.

    Raises:
        ConfigError: when replies are to end with their text that a reward must hear.
    """

    def __init__(
        self, policy: TrainablePolicy, source: RolloutSource, config: RolloutConfig, rewards: RewardMix, text_only: bool
    ) -> None:
        if config.spoken is not None:
            for reward in rewards.rewards:
                if reward.needs_audio and reward.channel != "speech" and rewards.weights[reward.name] > 0:
                    raise ConfigError(
                        f'rollouts.spoken leaves replies unheard, but the reward "{reward.name}" judges words by their '
                        "sound; take spoken or that reward away."
                    )
        self.policy = policy
        self.source = source
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
        sampled = self.source.sample(prompts, group_size, sampling, first, self.text_only, config.spoken)
        groups = [
            Group(example, prompt, rollouts)
            for example, prompt, rollouts in zip(examples, prompts, sampled, strict=True)
        ]
        self._took("sampling", started)
        return groups

    def reward(self, groups: Sequence[Group], step: int | None = None) -> Rewarded:
        """Decodes what has to be heard, then asks every reward. ``step`` is the update that the replies are for."""
        started = time.perf_counter()
        self.answer(groups, step)
        self._took("decoding", started)
        started = time.perf_counter()
        answers = [answer for group in groups for answer in group.answers]
        scored = self.rewards.score(answers)
        came = np.array([[bool(rollout.tokens) for rollout in group.rollouts] for group in groups])
        channels: tuple[Judged, ...] = ("text", "speech", "format")

        def placed(scores: Sequence[float | None]) -> np.ndarray:
            result = np.full(came.shape, np.nan)
            result[came] = _array(scores)
            return result

        def failed(name: str, scores: Sequence[float | None]) -> np.ndarray:
            result = np.zeros(came.shape, dtype=bool)
            result[came] = np.isnan(_array(scores)) & np.array(scored.asked[name], dtype=bool)
            return result

        result = Rewarded(
            list(groups),
            placed(scored.combined),
            {name: placed(self.rewards.combined_for(name, scored)) for name in channels},
            {name: placed(scores) for name, scores in scored.parts.items()},
            {name: failed(name, scores) for name, scores in scored.parts.items()},
            {name: _grouped(spans, came) for name, spans in scored.spans.items()},
            {name: self.rewards.shares_for(name) for name in channels},
        )
        self._took("rewards", started)
        return result

    def answer(self, groups: Sequence[Group], step: int | None = None) -> None:
        """Fills in the groups' answers: text always, a waveform where a reward needs audio."""
        spoken = self.config.spoken
        flat = [
            (group, rollout, self.text_only or (spoken is not None and k >= spoken))
            for group in groups
            for k, rollout in enumerate(group.rollouts)
            if rollout.tokens
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
                    step,
                )
            )

    def _took(self, phase: str, started: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started


def _grouped(spans: Sequence[tuple[Span, ...]], came: np.ndarray) -> list[list[tuple[Span, ...]]]:
    left = iter(spans)
    return [[next(left) if there else () for there in row] for row in came]


def _array(scores: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if score is None else score for score in scores], dtype=float)
