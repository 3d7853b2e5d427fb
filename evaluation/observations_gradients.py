"""Which channel's gradient is larger, and do they pull together? Text against speech, for GRPO, SFT and DPO.

As in the paper (arXiv 2604.14932, observation 3, figure 4): the loss is split by the channel of its tokens (eq. 7),
each part goes backward alone, and the ratio of the two gradients' norms and their cosine are taken over all weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.reproduce_tables import markdown
from evaluation.svg_charts import NEUTRAL, Mark, interval_chart
from wavalign.models.protocol import Channel
from wavalign.training.batch import flatten, micro_batches
from wavalign.training.channels import SPEECH, TEXT
from wavalign.training.config_files import load_config, recipes
from wavalign.training.loop import Trainer
from wavalign.training.plan import Plan, Scores
from wavalign.training.rollouts import step_seed

OBJECTIVES = {"GRPO": "grpo-all", "SFT": "sft", "DPO": "dpo-all"}
PAPER = {"GRPO": (1.43, 0.044), "SFT": (0.79, -0.005), "DPO": (1.51, -0.002)}
"""Medians of norm ratio and cosine in the paper's figure 4 (VITA-Audio)."""


def gradients(assets: Path, base: str, events: int, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Norm ratios (text / speech) and cosines of ``events`` batches by objective, at the weights of ``base``."""
    return {name: _of(recipe, assets, base, events, overrides) for name, recipe in OBJECTIVES.items()}


def _of(recipe: str, assets: Path, base: str, events: int, overrides: tuple[str, ...]) -> dict[str, Any]:
    # All weights: at the start of an adapter half of its gradient is zero by construction.
    fixed = [f"base={base}", "tuning.kind=full", "evaluation.every=0", *overrides]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(load_config(recipes()[recipe], fixed), Path(folder), assets, quiet=True)
        ratios, cosines = [], []
        for event in range(events):
            plan = _planned(trainer, event)
            text, speech = (_gradient(trainer, plan, channel) for channel in (TEXT, SPEECH))
            norms = float(text.norm()), float(speech.norm())
            if min(norms) > 0:  # a batch whose rewards do not differ has no gradient
                ratios.append(norms[0] / norms[1])
                cosines.append(float(text @ speech) / (norms[0] * norms[1]))
    return {"recipe": recipe, "norm_ratio": _rounded(ratios), "cosine": _rounded(cosines)}


def _planned(trainer: Trainer, step: int) -> Plan:
    config, method = trainer.config, trainer.method
    first = step * config.batch
    examples = [trainer.data[trainer.order[first + place]] for place in range(config.batch)]
    rewarded = None
    if method.samples:
        groups = trainer.sampler.sample(examples, method.samples, step_seed(config.seed, step), 0)
        rewarded = trainer.sampler.reward(groups, step)
    return method.plan(step, examples, rewarded, trainer.world)


def _gradient(trainer: Trainer, plan: Plan, channel: Channel) -> torch.Tensor:
    """Of the loss through one channel's tokens alone, over all trained weights, float64 (N,)."""
    parameters = trainer.trainee.parameters
    for parameter in parameters:
        parameter.grad = None
    for places in micro_batches(plan.units, trainer.config.micro_batch):
        units = [plan.units[place] for place in places]
        scored = trainer.trainee.logprobs(units)
        flat = flatten(units, scored.logprobs.device)
        own = torch.where(flat.channel == int(channel), scored.logprobs, scored.logprobs.detach())
        reference = trainer.trainee.reference_logprobs(units) if trainer.method.needs_reference else None
        loss = trainer.method.loss(flat, Scores(own, scored.entropy, None, reference), plan).value
        if loss.requires_grad:
            loss.backward()
    known = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([gradient.detach().double().flatten() for gradient in known])


def table(found: Mapping[str, Any]) -> str:
    body = []
    for name, row in found.items():
        ratio, cosine = quartiles(row["norm_ratio"]), quartiles(row["cosine"])
        paper = PAPER[name]
        shown = ["", ""] if ratio is None or cosine is None else [_range(ratio), _range(cosine)]
        body.append([name, str(len(row["cosine"])), *shown, f"{paper[0]:.2f}", f"{paper[1]:+.3f}"])
    head = ["", "batches", "norm ratio text / speech", "cosine", "paper: ratio", "paper: cosine"]
    return markdown(head, body)


def charts(found: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG."""
    titles = {
        "norm_ratio": ("Gradient norm, text over speech", "ratio: median and quartiles", "observation-norms.svg"),
        "cosine": ("Cosine of the text and the speech gradient", "median and quartiles", "observation-cosines.svg"),
    }
    result = {}
    for key, (title, label, file) in titles.items():
        marks = []
        for number, (name, row) in enumerate(found.items()):
            spread = quartiles(row[key])
            if spread is not None:
                marks.append(Mark(name, spread[1], spread[0], spread[2], colour=number))
                value = PAPER[name][0 if key == "norm_ratio" else 1]
                marks.append(Mark(f"{name}, paper", value, value, value, colour=NEUTRAL))
        result[file] = interval_chart(title, label, marks, zero=key == "cosine")
    return result


def quartiles(values: list[float]) -> tuple[float, float, float] | None:
    if not values:
        return None
    low, middle, high = np.percentile(values, [25, 50, 75])
    return float(low), float(middle), float(high)


def _range(spread: tuple[float, float, float]) -> str:
    return f"{spread[1]:.3f} ({spread[0]:.3f} to {spread[2]:.3f})"


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 5) for value in values]
