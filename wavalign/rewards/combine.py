"""Several rewards of the same replies into one number for each, with failures counted and never counted in."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wavalign.rewards.config import RewardConfig
from wavalign.rewards.flaky import Flaky
from wavalign.rewards.protocol import Answer, Judged, Reward, RewardError, Span, Timed, checked
from wavalign.rewards.registry import RewardContext, build

Score = float | None
T = TypeVar("T")


class TooManyFailures(RewardError):
    """A reward fails too often to go on; the message says which one and how often."""


@dataclass(frozen=True)
class Scored:
    """The scores of a list of replies.

    ``parts`` are every reward's own scores (before weighting), ``combined`` the weighted means. None is a failure,
    except where ``asked`` says that the reward was not asked about a reply. ``spans`` are the parts of replies that a
    reward told apart in time.
    """

    parts: Mapping[str, list[Score]]
    combined: list[Score]
    asked: Mapping[str, list[bool]]
    spans: Mapping[str, list[tuple[Span, ...]]] = field(default_factory=dict)

    @property
    def failures(self) -> dict[str, int]:
        """How many scores of each reward failed."""
        return {
            name: sum(score is None and asked for score, asked in zip(scores, self.asked[name], strict=True))
            for name, scores in self.parts.items()
        }


def combine(weights: Mapping[str, float], parts: Mapping[str, Sequence[Score]]) -> list[Score]:
    """The weighted mean of each reply's parts, which stays between 1 and 5; None where a part that counts failed.

    ``parts`` whose weight is 0 or missing do not count, and neither do their failures.

    Raises:
        ValueError: when nothing counts, or the parts are of different lengths.
    """
    counted = {name: weight for name, weight in weights.items() if weight > 0}
    missing = [name for name in counted if name not in parts]
    if not counted or missing:
        raise ValueError(f"There are no scores to combine: {', '.join(missing) or 'every weight is 0'}.")
    total = sum(counted.values())
    combined: list[Score] = []
    for row in zip(*(parts[name] for name in counted), strict=True):
        known = [score for score in row if score is not None]
        whole = len(known) == len(row)
        combined.append(sum(w * s for w, s in zip(counted.values(), known, strict=True)) / total if whole else None)
    return combined


class RewardMix:
    """The rewards of a config, asked together. ``state`` and ``restore`` carry the memory of recent failures.

    ``stop`` is the context's: it is set when scoring is interrupted, so that no reward keeps the process waiting.
    """

    def __init__(self, rewards: Sequence[Reward], config: RewardConfig, stop: threading.Event | None = None) -> None:
        self.rewards = tuple(rewards)
        self._stop = stop or threading.Event()
        self.weights = {reward.name: config.weights[reward.name] for reward in self.rewards}
        self._limit = config.max_failed_share
        self._recent = {reward.name: deque[bool](maxlen=config.failure_window) for reward in self.rewards}

    @classmethod
    def of(cls, config: RewardConfig, context: RewardContext) -> RewardMix:
        """Raises:
        RewardError: when a reward cannot be built, or one that scores parts of replies would have to guess.
        """
        rewards = [build(name, config, context) for name in config.weights]
        if config.flaky is not None:
            for reward in filter(is_timed, rewards):
                raise RewardError(f'rewards.flaky cannot guess for "{reward.name}", which scores the parts of a reply.')
            rewards = [Flaky(reward, config.flaky) for reward in rewards]
        return cls(rewards, config, context.stop)

    @property
    def needs_audio(self) -> bool:
        """Whether replies have to be decoded; text-only rewards let sampling stop at the end of the text."""
        return any(reward.needs_audio for reward in self.rewards)

    def names_for(self, channel: Judged) -> tuple[str, ...]:
        """The rewards that say something of a channel and count: its own, and those of both text and speech."""
        both = channel in ("text", "speech")
        return tuple(
            reward.name
            for reward in self.rewards
            if self.weights[reward.name] > 0 and (reward.channel == channel or (both and reward.channel == "both"))
        )

    def combined_for(self, channel: Judged, scored: Scored) -> list[Score]:
        """The weighted mean over ``names_for(channel)``: semantic scores for "text", acoustic ones for "speech".

        All None, which teaches nothing, where no reward judges the channel.
        """
        names = self.names_for(channel)
        if not names:
            return [None] * len(scored.combined)
        return combine({name: self.weights[name] for name in names}, scored.parts)

    def timed_for(self, channel: Judged) -> tuple[str, ...]:
        """Those of ``names_for(channel)`` that tell when something was heard."""
        return tuple(r.name for r in self.rewards if r.name in self.names_for(channel) and is_timed(r))

    def shares_for(self, channel: Judged) -> dict[str, float]:
        """What each of ``names_for(channel)`` counts, in sum 1."""
        names = self.names_for(channel)
        total = sum(self.weights[name] for name in names)
        return {name: self.weights[name] / total for name in names}

    def score(self, answers: Sequence[Answer]) -> Scored:
        """Asks every reward, side by side, about the replies it can judge: not about the sound of cut ones.

        A score that is not a number from 1 to 5 is a failure.

        Raises:
            RewardError: when a reward cannot judge such replies at all.
            TooManyFailures: when more than the allowed share of a reward's recent scores failed.
        """
        if not answers:
            nothing: dict[str, list] = {reward.name: [] for reward in self.rewards}
            return Scored(nothing, [], nothing, {reward.name: [] for reward in self.rewards if is_timed(reward)})
        asked = {
            reward.name: [not (reward.needs_audio and answer.cut) for answer in answers] for reward in self.rewards
        }
        with ThreadPoolExecutor(max_workers=len(self.rewards), thread_name_prefix="reward") as pool:
            pending = {
                reward.name: pool.submit(
                    reward.score, [a for a, wanted in zip(answers, asked[reward.name], strict=True) if wanted]
                )
                for reward in self.rewards
            }
            try:
                found = {name: list(future.result()) for name, future in pending.items()}
            except BaseException:
                self._stop.set()
                raise
        timed = {reward.name for reward in self.rewards if is_timed(reward)}
        for name, scores in found.items():
            if any(score is not None and isinstance(score, Timed) != (name in timed) for score in scores):
                raise RewardError(f'The reward "{name}" must give scores with times always or never, as it says.')
        parts = {name: [checked(score) for score in scores] for name, scores in found.items()}
        for name, scores in parts.items():
            if len(scores) != sum(asked[name]):
                raise RewardError(f'The reward "{name}" gave {len(scores)} scores for {sum(asked[name])} replies.')
            self._count(name, scores)
        spans = {
            name: [() if each is None else each for each in _spread([_spans_of(s) for s in scores], asked[name])]
            for name, scores in found.items()
            if name in timed
        }
        parts = {name: _spread(scores, asked[name]) for name, scores in parts.items()}
        return Scored(parts, combine(self.weights, parts), asked, spans)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: which of each reward's recent scores failed."""
        return {name: [int(failed) for failed in recent] for name, recent in self._recent.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, recent in self._recent.items():
            recent.clear()
            recent.extend(bool(failed) for failed in state.get(name, ()))

    def passed(self, counts: Mapping[str, int]) -> None:
        """Remembers scores that were given at another time, so many of each reward, as ones that did not fail."""
        for name, count in counts.items():
            self._recent[name].extend([False] * count)

    def _count(self, name: str, scores: Sequence[Score]) -> None:
        recent = self._recent[name]
        recent.extend(score is None for score in scores)
        failed, seen = sum(recent), len(recent)
        # A window that is not yet full proves little: a few failures at the start are no reason to stop.
        if self.weights[name] > 0 and seen == recent.maxlen and failed > self._limit * seen:
            raise TooManyFailures(
                f'The reward "{name}" failed for {failed} of the last {seen} replies. Look at its endpoint, '
                "or raise rewards.max_failed_share."
            )


def is_timed(reward: Reward) -> bool:
    """Whether a reward tells when in a reply something was heard."""
    return bool(getattr(reward, "timed", False))


def _spans_of(score: Any) -> tuple[Span, ...]:
    return score.spans if isinstance(score, Timed) and checked(score) is not None else ()


def _spread(scores: Sequence[T], asked: Sequence[bool]) -> list[T | None]:
    """The scores at the places that were asked about, None elsewhere."""
    left = iter(scores)
    return [next(left) if wanted else None for wanted in asked]
