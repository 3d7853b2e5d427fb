"""One checkpoint on held-out prompts: what it says, how it says it, and how likely it finds the demonstrations.

Every measure is kept by prompt as a numerator and a denominator, so that any two checkpoints can be compared in pairs.
All checkpoints answer the same prompts with the same sampling seeds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.grading import grade, is_correct
from wavalign.closedtalk.world import is_hard, item_of
from wavalign.metrics.measures import measure
from wavalign.metrics.wer import word_errors
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.protocol import Sampling
from wavalign.rewards.registry import RewardContext
from wavalign.training.channels import NAMES, channels_of
from wavalign.training.data import load_examples
from wavalign.training.data_config import DataConfig
from wavalign.training.examples import Example

ROWS_AT_ONCE = 64
GREEDY, SAMPLED, OWN, WARM = 0, 1, 2, 3
"""Streams of seeds: the four kinds of replies are drawn independently."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and how it is sampled.

    ``samples`` replies in words to each of ``prompts`` at ``temperature``, and one greedy one. ``spoken`` prompts are
    answered aloud at the checkpoint's own sampling (what is heard when one talks to it), ``warm`` ones at
    ``warm_temperature`` for words and speech alike, where damage shows first. ``likelihood`` demonstrations are scored.
    """

    split: str = "held_out"
    prompts: int = 300
    samples: int = 8
    temperature: float = 0.9
    spoken: int = 200
    warm: int = 200
    warm_temperature: float = 0.8
    likelihood: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.prompts, self.samples) < 1 or min(self.spoken, self.warm, self.likelihood) < 0:
            raise ValueError("prompts and samples must be at least 1; spoken, warm and likelihood at least 0.")


class Table:
    """Numerators and denominators by measure and prompt."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.places = {example.id: place for place, example in enumerate(examples)}
        self.rows: dict[str, np.ndarray] = {}

    def add(self, name: str, example: Example, top: float, bottom: float = 1.0) -> None:
        rows = self.rows.setdefault(name, np.zeros((2, len(self.places))))
        rows[:, self.places[example.id]] += (top, bottom)

    def plain(self) -> dict[str, list[list[float]]]:
        return {name: np.round(rows, 4).tolist() for name, rows in self.rows.items()}


def measured(model: InterleavedModel, checkpoint: str, assets: Path, sizes: Sizes) -> dict[str, Any]:
    """All measures of one checkpoint of ``model`` as plain JSON: ``sizes``, ``ids``, ``measures`` (name to the
    numerators and the denominators of every prompt), ``cpu_s`` and ``wall_s``.

    Raises:
        DataError: when the split is missing.
    """
    began, processed = time.perf_counter(), time.process_time()
    examples = list(load_examples(DataConfig(split=sizes.split, shuffle=False, limit=sizes.prompts), assets))
    context = RewardContext(assets)
    table = Table(examples)
    own = model.default_sampling
    _words(model, checkpoint, examples, 1, replace(own, temperature=0.0, seed=_seed(sizes, GREEDY)), "greedy", table)
    sampled = replace(own, temperature=sizes.temperature, top_p=1.0, top_k=0, seed=_seed(sizes, SAMPLED))
    _words(model, checkpoint, examples, sizes.samples, sampled, "sampled", table)
    warm = replace(
        own, temperature=sizes.warm_temperature, speech_temperature=None, top_p=1.0, top_k=0, seed=_seed(sizes, WARM)
    )
    own = replace(own, seed=_seed(sizes, OWN))
    for name, sampling, count in (("own", own, sizes.spoken), ("warm", warm, sizes.warm)):
        _speech(model, checkpoint, examples[:count], sampling, name, context, table)
    _likelihood(model, checkpoint, examples[: sizes.likelihood], table)
    return {
        "sizes": asdict(sizes),
        "ids": [example.id for example in examples],
        "measures": table.plain(),
        "cpu_s": round(time.process_time() - processed, 2),
        "wall_s": round(time.perf_counter() - began, 2),
    }


def _seed(sizes: Sizes, stream: int) -> int:
    return int(np.random.SeedSequence([0xE7A1, sizes.seed, stream]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _answers(
    model: InterleavedModel, checkpoint: str, examples: Sequence[Example], samples: int, sampling: Sampling, text: bool
) -> list[tuple[Example, Any]]:
    at_once = max(1, ROWS_AT_ONCE // samples)
    pairs = []
    for start in range(0, len(examples), at_once):
        batch = examples[start : start + at_once]
        prompts = [model.encode_prompt(example.prompt) for example in batch]
        groups = model.sample_groups(prompts, samples, sampling, checkpoint=checkpoint, first=start, text_only=text)
        pairs += [(example, rollout) for example, group in zip(batch, groups, strict=True) for rollout in group]
    return pairs


def _words(
    model: InterleavedModel,
    checkpoint: str,
    examples: Sequence[Example],
    samples: int,
    sampling: Sampling,
    name: str,
    table: Table,
) -> None:
    for example, rollout in _answers(model, checkpoint, examples, samples, sampling, True):
        item, text = item_of(example.facts["item"]), model.text_of(rollout.tokens)
        right = float(is_correct(text, item))
        table.add(f"accuracy/{name}", example, right)
        table.add(f"score/{name}", example, float(grade(text, item)))
        if name == "sampled":
            table.add(f"phrasing/{example.facts['phrasing']}", example, right)
            table.add(f"items/{'hard' if is_hard(item) else 'easy'}", example, right)
            table.add(f"family/{example.facts['family']}", example, right)


def _speech(
    model: InterleavedModel,
    checkpoint: str,
    examples: Sequence[Example],
    sampling: Sampling,
    name: str,
    context: RewardContext,
    table: Table,
) -> None:
    for example, rollout in _answers(model, checkpoint, examples, 1, sampling, False):
        waveform, text = model.decode_speech(rollout.tokens), model.text_of(rollout.tokens)
        table.add(f"finished/{name}", example, float(rollout.finished))
        table.add(f"seconds/{name}", example, waveform.seconds)
        if text.strip():
            (heard,) = context.recogniser.transcribe([waveform])
            errors = word_errors(text, heard)
            table.add(f"wer/{name}", example, errors.errors, errors.words)
        measures = measure(waveform, text)
        wanted = Delivery(example.facts["delivery"])
        table.add(f"delivery/{name}", example, float(context.references.adherence_of(measures, wanted).right))
        for key, value in (
            ("f0_sd", measures.f0_sd_semitones),
            ("rate", measures.letters_per_second),
            ("energy", measures.energy_db),
        ):
            if value is not None:
                table.add(f"{key}/{name}", example, value)


@torch.no_grad()
def _likelihood(model: InterleavedModel, checkpoint: str, examples: Sequence[Example], table: Table) -> None:
    """Negative log-likelihood of the demonstrations' tokens, in nats, by channel."""
    chosen = [example for example in examples if example.has_target]
    if not chosen:
        return
    for start in range(0, len(chosen), 16):
        batch = chosen[start : start + 16]
        prompts = [model.encode_prompt(example.prompt) for example in batch]
        targets = [model.encode_target(example.target_text, example.target_speech) for example in batch]
        logprobs = model.score(prompts, targets, checkpoint=checkpoint).logprobs
        for row, example in enumerate(batch):
            channels = channels_of(model, targets[row])
            for channel, name in NAMES.items():
                own = np.flatnonzero(channels == channel)
                if len(own):
                    table.add(f"nll/{name}", example, -float(logprobs[row, own].double().sum()), float(len(own)))
