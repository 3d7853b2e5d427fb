"""Advantages of speech tokens by what was heard where they sound, instead of one for a whole reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from wavalign.rewards.combine import RewardMix
from wavalign.rewards.protocol import HIGHEST, Span
from wavalign.training.advantages import Scale, group_advantages
from wavalign.training.config import ConfigError, PolicyGradient
from wavalign.training.rollouts import Rewarded

LEAST_SPREAD = 0.5
"""Gains of parts are divided by their root mean square, of at least this: small ones are not blown up to full size."""


def refuse_idle(preference: PolicyGradient, rewards: RewardMix, in_order: bool) -> None:
    """What a run with credit by words needs. ``in_order``: whether the model's speech tokens are in the order of time.

    Raises:
        ConfigError: when a setting would do nothing, or would move other tokens than those that were heard.
    """
    if preference.speech_credit != "words":
        return
    judges = rewards.names_for("speech")
    idle = [name for name in preference.speech_enough if name not in judges]
    if idle:
        raise ConfigError(
            f"method.preference.speech_enough names {', '.join(idle)}, but speech is judged by {', '.join(judges)}."
        )
    if not rewards.timed_for("speech"):
        raise ConfigError(
            "method.preference.speech_credit is words, but no reward says when it heard something; give pronunciation "
            "a weight in rewards.weights."
        )
    if not in_order:
        raise ConfigError(
            "method.preference.speech_credit words is not for this model: its speech tokens do not follow one another "
            "in time; take reply."
        )


def speech_advantages(
    rewarded: Rewarded, counts: Sequence[Sequence[int]], enough: Mapping[str, float], scale: Scale = "group"
) -> list[list[np.ndarray]]:
    """Advantages of the speech tokens of every reply, (tokens,) each; ``counts`` says how many there are.

    Each reward that judges speech counts with its share, and its scores up to ``enough``. One that scores parts in time
    gives a token its part's score minus what is usual: the mean of the parts with the same label (the same word) where
    several replies of the group have it, else the mean of all the group's parts; 0 where it says nothing. Any other
    reward gives all tokens the advantage of the reply. A reply of which one of these rewards failed is in no mean and
    gets 0. Tokens are evenly spaced in the order of time, so token k of n in T seconds sounds at (k + 1/2) T / n.
    """
    shares = rewarded.shares["speech"]
    known = np.isfinite(rewarded.channel["speech"])
    whole = {
        name: group_advantages(
            np.where(known, np.minimum(rewarded.parts[name], enough.get(name, HIGHEST)), np.nan), scale
        )
        for name in shares
        if name not in rewarded.spans
    }
    result: list[list[np.ndarray]] = []
    for p, group in enumerate(rewarded.groups):
        answers = iter(group.answers)
        seconds = [
            answer.waveform.seconds if answer is not None and answer.waveform is not None else 0.0
            for answer in (next(answers) if rollout.tokens else None for rollout in group.rollouts)
        ]
        of_reply = sum((shares[other] * each[p] for other, each in whole.items()), np.zeros(len(group.rollouts)))
        replies = [np.full(count, of_reply[k]) for k, count in enumerate(counts[p])]
        for name in shares:
            if name not in rewarded.spans:
                continue
            most = enough.get(name, HIGHEST)
            spans = [
                [replace(s, score=min(s.score, most)) for s in reply] if known[p, k] else []
                for k, reply in enumerate(rewarded.spans[name][p])
            ]
            gains = _gains(spans, scale)
            for k, reply in enumerate(replies):
                reply += shares[name] * _by_time(spans[k], gains[k], len(reply), seconds[k])
        result.append(replies)
    return result


def _gains(spans: Sequence[Sequence[Span]], scale: Scale) -> list[list[float]]:
    """Each part's score above what the group's replies have there, in root mean squares of all such differences."""
    scores = [span.score for reply in spans for span in reply]
    if not scores:
        return [[] for _ in spans]
    alike: dict[str, list[float]] = {}
    for reply in spans:
        for label in {span.label for span in reply if span.label}:
            alike.setdefault(label, []).append(float(np.mean([s.score for s in reply if s.label == label])))
    usual = {label: float(np.mean(each)) for label, each in alike.items() if len(each) > 1}
    overall = float(np.mean(scores))
    gains = [[span.score - usual.get(span.label, overall) for span in reply] for reply in spans]
    if scale == "none":
        return gains
    spread = max(float(np.sqrt(np.mean([gain**2 for reply in gains for gain in reply]))), LEAST_SPREAD)
    return [[gain / spread for gain in reply] for reply in gains]


def _by_time(spans: Sequence[Span], gains: Sequence[float], count: int, seconds: float) -> np.ndarray:
    found = np.zeros(count)
    times = (np.arange(count) + 0.5) * seconds / max(count, 1)
    for span, gain in zip(spans, gains, strict=True):
        found[(times >= span.start) & (times < span.end)] = gain
    return found
