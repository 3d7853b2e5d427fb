"""How much the samples of one prompt differ in words and in sound, as their scores see it.

As in the paper (arXiv 2604.14932, observation 4, figure 5): the population variance of the scores (1 to 5) within a
prompt, averaged over prompts. What does not vary teaches preference learning nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.intervals import bootstrap_mean
from evaluation.reproduce_tables import markdown
from evaluation.svg_charts import Mark, interval_chart
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.registry import RewardContext
from wavalign.training.config_files import make_config, overridden
from wavalign.training.data import load_examples
from wavalign.training.pool import model_sampler

REWARDS = {"rule": 1.0, "delivery": 0.5, "intelligibility": 0.5}
_AT_ONCE = 8
ROWS = {
    "semantic": "words",
    "acoustic": "sound",
    "delivery": "sound: delivery alone",
    "intelligibility": "sound: intelligibility alone",
    "difference": "words minus sound",
}
PAPER = {"semantic": (1.066, 0.911), "acoustic": (0.387, 0.509), "difference": (0.68, 0.40)}
"""Human ratings in the paper: VITA-Audio, Kimi-Audio."""


def variance(
    assets: Path, checkpoint: str, prompts: int, samples: int, split: str, overrides: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Estimates of the variance within a prompt; prompts are resampled. A prompt with a failed score is left out."""
    plain = overridden({}, [f"base={checkpoint}", f"data.split={split}", "data.shuffle=false", *overrides])
    config = make_config({**plain, "assets": str(assets)})
    weights = {"rewards": RewardConfig(weights=REWARDS)}
    mix = RewardMix.of(weights["rewards"], RewardContext(assets))
    examples = list(load_examples(config.data.model_copy(update={"limit": prompts}), assets))
    sampler = model_sampler(config, samples, text_only=False)
    spread: dict[str, list[float]] = {name: [] for name in ROWS}
    for start in range(0, len(examples), _AT_ONCE):
        groups = sampler(start, examples[start : start + _AT_ONCE])
        scored = mix.score([answer for group in groups for answer in group])
        scores = {
            "semantic": mix.combined_for("text", scored),
            "acoustic": mix.combined_for("speech", scored),
            **{name: scored.parts[name] for name in ("delivery", "intelligibility")},
        }
        grouped = {name: _array(values).reshape(len(groups), samples) for name, values in scores.items()}
        whole = np.all([np.isfinite(values).all(1) for values in grouped.values()], axis=0)
        for name, values in grouped.items():
            spread[name] += values[whole].var(axis=1).tolist()
        spread["difference"] += (grouped["semantic"].var(axis=1) - grouped["acoustic"].var(axis=1))[whole].tolist()
    estimates = {name: bootstrap_mean(values) for name, values in spread.items()}
    return {name: asdict(found) for name, found in estimates.items() if found is not None}


def table(found: Mapping[str, Any]) -> str:
    body = []
    for name, label in ROWS.items():
        if name in found:
            paper = [f"{value:.2f}" for value in PAPER.get(name, ())] or ["", ""]
            body.append([label, "{value:.3f} ({low:.3f} to {high:.3f})".format(**found[name]), *paper])
    return markdown(["variance of scores within a prompt", "here", "paper, VITA", "paper, Kimi"], body)


def chart(found: Mapping[str, Any]) -> str:
    marks = [
        Mark(label, found[name]["value"], found[name]["low"], found[name]["high"], colour=number)
        for number, (name, label) in enumerate(ROWS.items())
        if name in found
    ]
    return interval_chart("Variance of scores within a prompt", "population variance, scores from 1 to 5", marks, True)


def _array(scores: list[float | None]) -> np.ndarray:
    return np.array([np.nan if score is None else score for score in scores])
