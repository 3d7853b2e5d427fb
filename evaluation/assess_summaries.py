"""A task's official aggregates (VoiceBench's overall score), with intervals by resampling prompts in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evaluation.assess_plan import Plan
from evaluation.assess_records import Records
from evaluation.tasks.protocol import Item, Scored, Task
from wavalign.dialogue import Dialogue

SUMMARIES = "summaries.json"
DRAWS = 300
Rows = Mapping[str, Sequence[tuple[Item, Scored]]]


def summaries(tasks: Mapping[str, Task], records: Records, plan: Plan) -> dict[str, Any]:
    """task -> aggregate -> {"checkpoints": {name: estimate}, "differences": {name: estimate}}; estimates are
    {"value", "low", "high"}, differences from the baseline."""
    found = {}
    for name, task in tasks.items():
        by_checkpoint = {each: _rows(name, each, records) for each in plan.checkpoints}
        whole = {each: task.summary(_flat(rows)) for each, rows in by_checkpoint.items()}
        if any(whole.values()):
            found[name] = _estimates(task, by_checkpoint, whole, plan)
    return found


def _rows(task: str, checkpoint: str, records: Records) -> Rows:
    """Prompt -> its scored replies. The prompts' labels come from the records: their recordings are not read again."""
    rows: dict[str, list[tuple[Item, Scored]]] = {}
    for key, record in records.scores.items():
        if key[:2] == (task, checkpoint):
            reply = records.replies[key]
            item = Item(reply.item, reply.category, Dialogue(), reply.groups)
            rows.setdefault(reply.item, []).append((item, Scored(record.values, record.failed, record.about)))
    return rows


def _flat(rows: Rows, ids: Sequence[str] | None = None) -> list[tuple[Item, Scored]]:
    return [row for id_ in (rows if ids is None else ids) for row in rows.get(id_, ())]


def _estimates(
    task: Task, by_checkpoint: Mapping[str, Rows], whole: Mapping[str, Mapping[str, float]], plan: Plan
) -> Any:
    rng = np.random.default_rng(plan.seed)
    ids = sorted(set().union(*by_checkpoint.values()))
    drawn: dict[str, list[Mapping[str, float]]] = {name: [] for name in plan.checkpoints}
    for _ in range(DRAWS):
        chosen = [ids[place] for place in rng.integers(0, len(ids), len(ids))]
        for name in plan.checkpoints:
            drawn[name].append(task.summary(_flat(by_checkpoint[name], chosen)))
    found: dict[str, Any] = {}
    for aggregate in sorted(set().union(*whole.values())):
        values = {n: [each.get(aggregate, np.nan) for each in drawn[n]] for n in plan.checkpoints}
        own = {
            name: _estimate(whole[name][aggregate], np.array(values[name]))
            for name in plan.checkpoints
            if aggregate in whole[name]
        }
        base = plan.baseline
        apart = {
            name: _estimate(
                whole[name][aggregate] - whole[base][aggregate], np.array(values[name]) - np.array(values[base])
            )
            for name in own
            if name != base and base in own
        }
        found[aggregate] = {"checkpoints": own, "differences": apart}
    return found


def _estimate(value: float, drawn: np.ndarray) -> dict[str, float | None]:
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (None, None)
    return {
        "value": float(value),
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
    }
