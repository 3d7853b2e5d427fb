"""How checkpoints differ on the same prompts with the same sampling seeds: figures, paired intervals, what got worse.

Every measure of a reply is a numerator and a denominator (``evaluation.reproduce_intervals.Ratio``): right answers by
replies, word errors by words. Replies to one prompt are pooled and prompts are resampled, since several samples of one
prompt are not independent. A difference is taken over the prompts and samples that were measured on both sides, with
the same prompts drawn for both; what is missing on either is counted beside it and never filled in.

The result is plain JSON (``SCHEMA``), from which the reports are written::

    plan, created, revision, checkpoints [{name, base, fingerprint, provenance}], unavailable {metric: sentence},
    tasks [{name, prompts, samples, replies {checkpoint: {asked, failed, reasons}}, problem, judges, summary,
            metrics [{name, unit, low, high, better, caveat, kind, checkpoints {name: figure},
                      differences {name: difference}, groups [{by, name, checkpoints, differences}]}],
            regressions {checkpoint: {metric: {prompts, better, worse, same, list [...]}}}}]
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.acoustics import ACOUSTICS
from evaluation.assess import PROBLEMS
from evaluation.assess_plan import Plan, PlanError, read_plan
from evaluation.assess_records import Records, ReplyRecord
from evaluation.assess_summaries import SUMMARIES
from evaluation.compare_regressions import regressions
from evaluation.intervals import Estimate
from evaluation.reproduce_intervals import Ratio, over_seeds
from evaluation.tasks.protocol import MetricInfo, TaskContext
from evaluation.tasks.registry import create
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry

SCHEMA = "wavalign-evaluation/1"
FEWEST = 5
"""Prompts below which no interval is given: the bootstrap of so few is too short."""
Json = dict[str, Any]


def read_comparison(
    work: Path, assets: Path, home: Path | None = None, unavailable: Mapping[str, str] | None = None
) -> Json:
    """Everything that the records in ``work`` say.

    Raises:
        PlanError: when there are none.
    """
    found = read_plan(work)
    if found is None:
        raise PlanError(f"{work} holds no evaluation.")
    plan, fingerprints = found
    records = Records(work)
    if not records.replies:
        raise PlanError(f"{work} holds no replies yet.")
    context = TaskContext(assets, plan.data, plan.judge)
    problems, aggregates = _read(work / PROBLEMS), _read(work / SUMMARIES)
    tasks = []
    for name in plan.tasks:
        task = create(name, context)
        table = TaskTable(name, plan, records)
        if not table.prompts:
            continue
        tasks.append(
            {
                "name": name,
                "prompts": len(table.prompts),
                "samples": plan.samples,
                "replies": table.replies(),
                "problem": problems.get(name, ""),
                "judges": dict(task.judges()),
                "summary": aggregates.get(name, {}),
                "metrics": _metrics(table, task.metrics, "semantic") + _metrics(table, ACOUSTICS, "acoustic"),
                "regressions": regressions(table, [*task.metrics[:1], ACOUSTICS[0]]),
            }
        )
    return {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "plan": plan.model_dump(mode="json"),
        "checkpoints": [_about(name, fingerprints.get(name, ""), assets, home) for name in plan.checkpoints],
        "unavailable": dict(unavailable or {}),
        "tasks": tasks,
    }


@dataclass
class TaskTable:
    """The records of one task as tables of prompts and samples."""

    name: str
    plan: Plan
    records: Records

    @cached_property
    def own(self) -> dict[tuple[str, str, int], ReplyRecord]:
        """(checkpoint, prompt, sample) -> reply."""
        return {key[1:]: record for key, record in self.records.replies.items() if key[0] == self.name}

    @cached_property
    def prompts(self) -> list[str]:
        return sorted({prompt for _, prompt, _ in self.own})

    @cached_property
    def groups(self) -> dict[tuple[str, str], np.ndarray]:
        """(breakdown, name) -> which prompts belong to it, (P,) bool; "category" first."""
        of_prompt: dict[str, dict[str, str]] = {}
        for (_, prompt, _), record in self.own.items():
            if record.category:
                of_prompt[prompt] = {"category": record.category, **record.groups}
        breakdowns = list(dict.fromkeys(by for groups in of_prompt.values() for by in groups))
        found = {}
        for by in breakdowns:
            names = [of_prompt.get(prompt, {}).get(by) for prompt in self.prompts]
            for name in sorted({name for name in names if name is not None}):
                found[by, name] = np.array([each == name for each in names])
        return found

    def values(self, checkpoint: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Values and their weights, both (S, P); weight 0 where there is no value."""
        values = np.zeros((self.plan.samples, len(self.prompts)))
        weights = np.zeros_like(values)
        for place, prompt in enumerate(self.prompts):
            for sample in range(self.plan.samples):
                value, weight = self.value(checkpoint, prompt, sample, metric)
                if value is not None:
                    values[sample, place], weights[sample, place] = value, weight
        return values, weights

    def value(self, checkpoint: str, prompt: str, sample: int, metric: str) -> tuple[float | None, float]:
        """One reply's value and what it counts."""
        reply = self.own.get((checkpoint, prompt, sample))
        if reply is None:
            return None, 0.0
        score = self.records.scores.get(reply.key)
        if score is not None and metric in score.values:
            return score.values[metric], 1.0
        return reply.values.get(metric), reply.weights.get(metric, 1.0)

    def failed(self, checkpoint: str, metric: str) -> int:
        """Replies whose value was tried and failed."""
        count = 0
        for (name, _, _), reply in self.own.items():
            if name == checkpoint and not reply.error:
                score = self.records.scores.get(reply.key)
                count += metric in reply.failed or (score is not None and metric in score.failed)
        return count

    def replies(self) -> Json:
        """Per checkpoint how many replies were asked for, how many failed, and why."""
        found = {}
        for checkpoint in self.plan.checkpoints:
            own = [reply for (name, _, _), reply in self.own.items() if name == checkpoint]
            reasons = Counter(reply.error for reply in own if reply.error)
            scores = (self.records.scores.get(reply.key) for reply in own)
            reasons.update(reason for score in scores if score for reason in set(score.failed.values()))
            reasons.update(reason for reply in own for reason in set(reply.failed.values()))
            failed = sum(bool(reply.error) for reply in own)
            found[checkpoint] = {"asked": len(own), "failed": failed, "reasons": dict(reasons.most_common(8))}
        return found


def _metrics(table: TaskTable, metrics: Sequence[MetricInfo], kind: str) -> list[Json]:
    found = []
    for metric in metrics:
        tables = {name: table.values(name, metric.name) for name in table.plan.checkpoints}
        failed = {name: table.failed(name, metric.name) for name in tables}
        if not any(weights.any() for _, weights in tables.values()) and not any(failed.values()):
            continue
        everything = np.ones(len(table.prompts), bool)
        groups = [
            {"by": by, "name": name, **_figures(table, metric, tables, chosen)}
            for (by, name), chosen in table.groups.items()
        ]
        whole = _figures(table, metric, tables, everything)
        for name, figure in whole["checkpoints"].items():
            figure["failed"] = failed[name]
        found.append({**asdict(metric), "kind": kind, **whole, "groups": groups})
    return found


def _figures(
    table: TaskTable, metric: MetricInfo, tables: Mapping[str, tuple[np.ndarray, np.ndarray]], chosen: np.ndarray
) -> Json:
    """Every checkpoint's mean over the chosen prompts (P,), and the differences from the baseline."""
    seed, base = table.plan.seed, table.plan.baseline
    checkpoints, apart = {}, {}
    for name, (values, weights) in tables.items():
        measured = chosen & (weights > 0).any(0)
        checkpoints[name] = {
            **_plain(_pooled(values[:, measured], weights[:, measured], seed=seed), int(measured.sum())),
            "by_seed": [_mean(v, w) for v, w in zip(values[:, chosen], weights[:, chosen], strict=True)],
        }
        if name != base:
            both = (weights > 0) & (tables[base][1] > 0)
            used = chosen & both.any(0)
            mine, theirs = (
                (t[0][:, used], np.where(both, t[1], 0.0)[:, used]) for t in ((values, weights), tables[base])
            )
            estimate = _pooled(*mine, minus=theirs, seed=seed)
            apart[name] = _plain(estimate, int(used.sum()))
            apart[name]["verdict"] = verdict(apart[name], metric.better)
    return {"checkpoints": checkpoints, "differences": apart}


def verdict(difference: Json, better: str | None) -> str:
    """In one word or three: whether the interval excludes no difference, and whether that is good."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        return "too few prompts"
    if low <= 0 <= high:
        return "no clear difference"
    if better is None:
        return "higher" if low > 0 else "lower"
    return "better" if (low > 0) == (better == "higher") else "worse"


def _pooled(
    values: np.ndarray, weights: np.ndarray, minus: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0
) -> Estimate | None:
    """Samples of a prompt added up, prompts resampled."""
    if not weights.size or not weights.any():
        return None
    other = None if minus is None else _ratio(*minus)
    return over_seeds(_ratio(values, weights), other, seed=seed)


def _ratio(values: np.ndarray, weights: np.ndarray) -> Ratio:
    return Ratio((values * weights).sum(0, keepdims=True), weights.sum(0, keepdims=True))


def _mean(values: np.ndarray, weights: np.ndarray) -> float | None:
    return float((values * weights).sum() / weights.sum()) if weights.sum() else None


def _plain(estimate: Estimate | None, prompts: int) -> Json:
    if estimate is None:
        return {"value": None, "low": None, "high": None, "prompts": prompts}
    few = prompts < FEWEST
    low, high = (None, None) if few else (estimate.low, estimate.high)
    return {"value": estimate.value, "low": low, "high": high, "prompts": prompts}


def _about(name: str, mark: str, assets: Path, home: Path | None) -> Json:
    about: Json = {"name": name, "fingerprint": mark}
    try:
        found = Registry(assets, home).checkpoint(name)
        about |= {"base": found.base_name, "is_base": found.adapter is None}
        about["provenance"] = json.loads(json.dumps(dict(found.provenance), default=str))
    except CheckpointError as error:  # it was removed since; its figures stand all the same
        about["problem"] = str(error)
    return about


def _read(path: Path) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
