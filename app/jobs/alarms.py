"""What goes wrong in a run although nothing fails, each as a sentence with its figures.

The reward is what is trained; what it does not see must be watched beside it (arXiv 2509.18531 and others report
rewards that rose while speech broke).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.jobs.series import Series

REWARD_UP = 0.15
"""How much more the mean reward (1 to 5) of the last quarter must be than that of the first to count as risen."""
WER_UP = 0.05
DELIVERY_DOWN = 0.10
NLL_UP = 0.10
KL_HIGH = 0.5
"""Nats a token from the reference."""
FAILED_SHARE = 0.2
FLAT_SHARE = 0.8
ENTROPY_LEFT = 0.2
CLIPPED_SHARE = 0.5
_FEWEST = 12


@dataclass(frozen=True)
class Alarm:
    """``serious`` ones end a job that asked for it."""

    kind: str
    sentence: str
    serious: bool = False


def alarms(series: Series, allowed: Mapping[str, float] | None = None) -> list[Alarm]:
    """All alarms of a run as it stands; ``allowed`` are the guards' limits of its config."""
    found = [*_hacking(series, allowed or {}), *_rewards(series), *_learning(series)]
    return found


def _hacking(series: Series, allowed: Mapping[str, float]) -> list[Alarm]:
    _, reward = series.get("reward")
    if len(reward) < _FEWEST:
        return []
    quarter = max(3, len(reward) // 4)
    before, after = float(reward[:quarter].mean()), float(reward[-quarter:].mean())
    if after - before < REWARD_UP:
        return []
    rises = f"The reward rose from {before:.2f} to {after:.2f}"
    found = []
    for name, limit, sign, says in (
        ("wer", WER_UP, 1, "the word error rate of held-out speech rose from {0:.0%} to {1:.0%}"),
        ("delivery", DELIVERY_DOWN, -1, "fitting delivery of held-out speech fell from {0:.0%} to {1:.0%}"),
        ("nll_speech", NLL_UP, 1, "held-out speech became less likely ({0:.2f} to {1:.2f} nats a token)"),
    ):
        _, values = series.get(f"eval/acoustic/{name}")
        if len(values) >= 2 and sign * (values[-1] - values[0]) > allowed.get(name, limit):
            sentence = f"{rises} while {says.format(values[0], values[-1])}: likely reward hacking."
            found.append(Alarm(f"hacking-{name}", sentence, serious=True))
    for channel in ("text", "speech"):
        far = _distance(series, channel, quarter)
        if far is not None and far > KL_HIGH:
            sentence = (
                f"{rises} while the {channel} went {far:.2f} nats a token away from the base: likely reward hacking."
            )
            found.append(Alarm(f"hacking-kl-{channel}", sentence, serious=True))
    return found


def _distance(series: Series, channel: str, quarter: int) -> float | None:
    """Nats a token from the reference: of training's own replies lately, else of the last held-out ones."""
    _, kl = series.get(f"kl/{channel}")
    if len(kl) >= _FEWEST:
        return float(kl[-quarter:].mean())
    _, held_out = series.get(f"eval/kl/{channel}")
    return float(held_out[-1]) if len(held_out) >= 2 else None


def _rewards(series: Series) -> list[Alarm]:
    found = []
    for name in series.names:
        if name.startswith("rewards/") and name.endswith("/failed_frac"):
            share = _recent(series, name, 10)
            if share is not None and share > FAILED_SHARE:
                reward = name.split("/")[1]
                found.append(Alarm(f"failed-{reward}", f"{share:.0%} of the {reward} scores failed lately."))
    flat = _recent(series, "frac_reward_zero_std", 20)
    if flat is not None and flat > FLAT_SHARE:
        sentence = f"In {flat:.0%} of the groups all replies get the same reward: there is little to learn from."
        found.append(Alarm("flat", sentence))
    return found


def _learning(series: Series) -> list[Alarm]:
    found = []
    skipped = series.latest("skipped_steps")
    if skipped:
        plural = "step was" if skipped == 1 else "steps were"
        found.append(Alarm("skipped", f"{skipped:.0f} {plural} skipped: loss or gradient was not a number."))
    for channel in ("text", "speech"):
        _, entropy = series.get(f"entropy/{channel}")
        if len(entropy) >= _FEWEST:
            start, end = float(entropy[:3].mean()), float(entropy[-3:].mean())
            if start > 0.05 and end < ENTROPY_LEFT * start:
                sentence = (
                    f"The entropy of the {channel} fell from {start:.2f} to {end:.2f} nats: replies become alike."
                )
                found.append(Alarm(f"entropy-{channel}", sentence))
    clipped = _recent(series, "completions/clipped_ratio", 10)
    if clipped is not None and clipped > CLIPPED_SHARE:
        sentence = f"{clipped:.0%} of the replies are cut off: raise rollouts.max_tokens or rollouts.max_seconds."
        found.append(Alarm("clipped", sentence))
    return found


def _recent(series: Series, name: str, count: int) -> float | None:
    _, values = series.get(name)
    return float(np.mean(values[-count:])) if len(values) >= 3 else None
