"""How far training moves each channel: teacher-forced log-probabilities under the tuned model minus the base's.

As in the paper (arXiv 2604.14932, observation 1, figure 2): on replies that the tuned model itself samples, the mean
size of log p_tuned(token) - log p_base(token), over text and over speech positions. A mask on the loss does not leave
the other channel alone where the channels share parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from evaluation.reproduce_cells import Cell, load_trained
from evaluation.reproduce_intervals import Ratio, over_seeds
from evaluation.reproduce_tables import markdown
from evaluation.svg_charts import Mark, interval_chart
from wavalign.models.registry import Registry
from wavalign.training.channels import SPEECH, TEXT, channels_of
from wavalign.training.data import load_examples
from wavalign.training.data_config import DataConfig

CHANNELS = {"text": TEXT, "speech": SPEECH}
_ROWS_AT_ONCE = 16


@torch.no_grad()
def shift(cells: Sequence[Cell], prompts: int, split: str) -> dict[str, Any]:
    """Estimates of the mean |shift| in nats by variant and channel; prompts are resampled."""
    if not cells:
        return {}
    setting = cells[0].setting
    base = Registry(setting.assets).load([setting.base])
    examples = list(load_examples(DataConfig(split=split, shuffle=False, limit=prompts), setting.assets))
    encoded = [base.encode_prompt(example.prompt) for example in examples]
    result: dict[str, Any] = {}
    for cell in cells:
        tuned, name = load_trained(cell)
        sampling = replace(tuned.default_sampling, temperature=0.9, speech_temperature=None, top_p=1.0, seed=11)
        rows = {channel: np.zeros((2, 1, len(examples))) for channel in CHANNELS}
        for start in range(0, len(encoded), _ROWS_AT_ONCE):
            batch = encoded[start : start + _ROWS_AT_ONCE]
            groups = tuned.sample_groups(batch, 1, sampling, checkpoint=name, first=start)
            replies = [list(group[0].tokens) for group in groups]
            moved = tuned.score(batch, replies, checkpoint=name).logprobs
            moved = (moved - base.score(batch, replies).logprobs).abs().double().numpy()
            for row, tokens in enumerate(replies):
                channels = channels_of(tuned, tokens)
                for label, channel in CHANNELS.items():
                    own = np.flatnonzero(channels == channel)
                    rows[label][:, 0, start + row] = moved[row, own].sum(), len(own)
        estimates = {label: over_seeds(Ratio(*both)) for label, both in rows.items()}
        result[cell.variant.name] = {label: asdict(found) for label, found in estimates.items() if found is not None}
    return result


def table(found: dict[str, Any]) -> str:
    body = [[f"`{name}`", *(_cell(row.get(label)) for label in CHANNELS)] for name, row in found.items()]
    return markdown(["mean size of the shift, nats a token", *CHANNELS], body) if body else "_Nothing measured yet._"


def chart(found: dict[str, Any]) -> str:
    marks = [
        Mark(f"{name}, {label}", e["value"], e["low"], e["high"], colour=number)
        for name, row in found.items()
        for number, label in enumerate(CHANNELS)
        if (e := row.get(label))
    ]
    return interval_chart("Shift of log-probabilities from the base, by channel", "mean size, nats a token", marks)


def _cell(estimate: dict[str, float] | None) -> str:
    return "" if estimate is None else "{value:.3f} ({low:.3f} to {high:.3f})".format(**estimate)
