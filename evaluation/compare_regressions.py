"""The prompts on which a checkpoint does worse than the baseline, worst first: what to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.tasks.protocol import MetricInfo

if TYPE_CHECKING:
    from evaluation.compare import TaskTable

LISTED = 20
Json = dict[str, Any]


def regressions(table: TaskTable, metrics: Sequence[MetricInfo]) -> Json:
    """checkpoint -> metric -> how many prompts got better, worse or stayed, and the worst with both replies."""
    return {
        name: {metric.name: _of(table, name, metric) for metric in metrics if metric.better is not None}
        for name in table.plan.checkpoints
        if name != table.plan.baseline
    }


def _of(table: TaskTable, checkpoint: str, metric: MetricInfo) -> Json:
    base = table.plan.baseline
    mine, my_weights = table.values(checkpoint, metric.name)
    theirs, their_weights = table.values(base, metric.name)
    both = (my_weights > 0) & (their_weights > 0)
    sign = 1.0 if metric.better == "higher" else -1.0
    gains = np.where(both, sign * (mine - theirs), 0.0)
    of_prompt = gains.sum(0) / np.maximum(both.sum(0), 1)
    measured = both.any(0)
    worse = [int(place) for place in np.argsort(of_prompt, kind="stable") if of_prompt[place] < -1e-9]
    return {
        "prompts": int(measured.sum()),
        "better": int((of_prompt > 1e-9).sum()),
        "worse": len(worse),
        "same": int(measured.sum() - (of_prompt > 1e-9).sum() - len(worse)),
        "list": [_entry(table, checkpoint, metric, place, int(np.argmin(gains[:, place]))) for place in worse[:LISTED]],
    }


def _entry(table: TaskTable, checkpoint: str, metric: MetricInfo, place: int, sample: int) -> Json:
    """The sample that lost most, as both said it."""
    prompt = table.prompts[place]
    replies = {}
    for name in (table.plan.baseline, checkpoint):
        record = table.own[name, prompt, sample]
        score = table.records.scores.get(record.key)
        replies[name] = {
            "text": record.text,
            "transcript": record.transcript,
            "sound": record.sound,
            "value": table.value(name, prompt, sample, metric.name)[0],
            "about": dict(score.about) if score else {},
        }
    record = table.own[checkpoint, prompt, sample]
    return {
        "item": prompt,
        "sample": sample,
        "seed": record.seed,
        "category": record.category,
        "question": record.question,
        "replies": replies,
    }
