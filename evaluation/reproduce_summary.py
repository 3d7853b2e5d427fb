"""From measured cells to what a table says: means with intervals, paired differences, trajectories, equal CPU time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evaluation.intervals import Estimate
from evaluation.reproduce_cells import Cell, Setting, training_seconds
from evaluation.reproduce_intervals import Ratio, mean_with_t, over_seeds
from evaluation.reproduce_tuning import changes_nothing
from evaluation.reproduce_variants import Variant

BASE, SFT = "base", "sft"
CURVES = ("eval/semantic/accuracy", "eval/acoustic/wer", "eval/acoustic/delivery", "eval/acoustic/nll_speech")
TRAINING = ("mix/lambda", "mix/lambda_speech", "reward", "loss/sft_speech", "grad_norm", "frac_reward_zero_std")
_WINDOW = 10
"""Steps whose mean is one point of a training curve."""
_BEYOND = 1.02
"""A run's last evaluation holds for so much more time than it took, no longer."""


def summary(cells: Sequence[Cell], base: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    """Plain JSON: ``base`` and each variant's ``measures``, ``minus_base``, ``minus_sft`` (estimates by measure),
    ``minus_wavalign``, ``minus_full`` (from its twin of all weights) and ``minus_recipe`` (from its recipe as it
    ships), its ``runs`` (trajectories of every seed), ``cpu_s``, and whether that is compared (``timed``). Only
    cells that are measured count.
    """
    done: dict[Variant, list[Cell]] = {}
    for cell in cells:
        if cell.measures is not None:
            done.setdefault(cell.variant, []).append(cell)
    ids = base["ids"]
    of_base = ratios([base])
    rows: dict[str, Any] = {}
    for variant, own in done.items():
        measures = [cell.measures for cell in own]
        if any(found["ids"] != ids for found in measures):
            raise ValueError(f"{variant.name} was measured on other prompts than the base.")
        mine = ratios(measures)
        rows[variant.name] = {
            "recipe": variant.recipe,
            "overrides": list(variant.overrides),
            "seeds": [cell.seed for cell in own],
            "measures": estimates(mine),
            "minus_base": estimates(mine, of_base),
            "minus_sft": _against(own, done, SFT),
            "minus_wavalign": _against(own, done, "wavalign"),
            "minus_full": _against(own, done, f"{variant.name}-full"),
            "shipped": changes_nothing(variant),
            "minus_recipe": _against(own, done, _shipped(variant, done)),
            "runs": [_trajectories(cell) for cell in own],
            "timed": variant.name not in setting.untimed,
            "cpu_s": _estimate(mean_with_t(np.array([training_seconds(cell)[-1][1] for cell in own]))),
        }
    return {
        "base": {"name": setting.base, "sha256": base["sha256"], "measures": estimates(of_base)},
        "setting": {
            "steps": setting.steps,
            "overrides": list(setting.overrides),
            "tuned": {recipe: list(values) for recipe, values in setting.tuned.items()},
            "pool": str(setting.pool) if setting.pool else None,
            "sizes": asdict(setting.sizes),
        },
        "variants": rows,
        "equal_cpu": equal_cpu({name: row for name, row in rows.items() if row["timed"]}),
    }


def ratios(measures: Sequence[Mapping[str, Any]]) -> dict[str, Ratio]:
    """Measures of several runs, by name; what only some runs measured is left out."""
    names = set.intersection(*(set(found["measures"]) for found in measures))
    order = [name for name in measures[0]["measures"] if name in names]
    stacked = {name: np.array([found["measures"][name] for found in measures]) for name in order}
    return {name: Ratio(rows[:, 0], rows[:, 1]) for name, rows in stacked.items()}


def estimates(mine: Mapping[str, Ratio], minus: Mapping[str, Ratio] | None = None) -> dict[str, Any]:
    """An estimate for each measure, or of its difference."""
    result = {}
    for name, ratio in mine.items():
        if minus is not None and name not in minus:
            continue
        found = _estimate(over_seeds(ratio, None if minus is None else minus[name]))
        if found is not None:
            result[name] = found
    return result


def _against(own: Sequence[Cell], done: Mapping[Variant, Sequence[Cell]], name: str) -> dict[str, Any]:
    """Differences from another variant, seed by seed; only seeds that both have."""
    other = {cell.seed: cell for variant, cells in done.items() if variant.name == name for cell in cells}
    pairs = [(cell, other[cell.seed]) for cell in own if cell.seed in other]
    if not pairs or own[0].variant.name == name:
        return {}
    mine, theirs = (ratios([pair[side].measures for pair in pairs]) for side in (0, 1))
    return estimates(mine, theirs) | {"seeds": [cell.seed for cell, _ in pairs]}


def _shipped(variant: Variant, done: Mapping[Variant, Sequence[Cell]]) -> str:
    """The variant that stands for the same recipe as it ships; the recipe's name where there is none."""
    same = (other.name for other in done if other.recipe == variant.recipe and changes_nothing(other))
    return next(same, variant.recipe)


def _trajectories(cell: Cell) -> dict[str, Any]:
    lines = cell.metrics
    seconds = dict(training_seconds(cell))
    result: dict[str, Any] = {"seed": cell.seed, "cpu_s": round(max(seconds.values(), default=0.0), 2)}
    result |= {"mean_lambda": cell.mean_lambda, "mean_lambda_speech": cell.mean("mix/lambda_speech")}
    for name in TRAINING:
        known = [(line["step"], line[name]) for line in lines if name in line]
        points = [known[start : start + _WINDOW] for start in range(0, len(known), _WINDOW)]
        if points:
            result[name] = [[int(p[-1][0]), round(float(np.mean([v for _, v in p])), 4)] for p in points]
    for name in CURVES:
        known = [
            [line["step"], round(seconds[line["step"]], 2), round(line[name], 4)] for line in lines if name in line
        ]
        if known:
            result[name] = known
    return result


def equal_cpu(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each variant had reached on validation prompts when equal seconds of CPU were spent on its steps.

    The budgets are the totals of the variants' fastest runs, so each variant has one at which it just ended; of totals
    within 15 % of each other the smallest stands for all, which every run had then reached. Between two evaluations of
    a run the line is straight; a run that is over at a budget has no value there.
    """
    totals = sorted(min(run["cpu_s"] for run in row["runs"]) for row in rows.values() if row["runs"])
    budgets: list[float] = []
    for total in totals:
        if not budgets or total > 1.15 * budgets[-1]:
            budgets.append(total)
    table = []
    for budget in budgets:
        reached = {name: _reached(row["runs"], budget) for name, row in rows.items()}
        table.append({"cpu_s": budget, "variants": {name: found for name, found in reached.items() if found}})
    return table


def _reached(runs: Sequence[Mapping[str, Any]], budget: float) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in CURVES:
        values = []
        for run in runs:
            curve = run.get(name, [])
            if len(curve) > 1 and budget <= _BEYOND * curve[-1][1]:
                values.append(np.interp(budget, [point[1] for point in curve], [point[2] for point in curve]))
        if len(values) == len(runs) and values:
            result[name] = _estimate(mean_with_t(np.array(values)))
    return result


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in asdict(estimate).items()}
