"""The comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation import report_words as words


def plain_text(report: Mapping[str, Any]) -> str:
    """Every task: a table of figures with intervals, then the sentences."""
    names = [each["name"] for each in report["checkpoints"]]
    lines: list[str] = []
    for task in report["tasks"]:
        rows = [["", *names, *(f"{name} - {names[0]}" for name in names[1:])]]
        for metric in task["metrics"]:
            unit = metric["unit"]
            row = [words.label(metric["name"])]
            row += [words.figure(metric["checkpoints"][name], unit) for name in names]
            for name in names[1:]:
                found = metric["differences"][name]
                row.append(f"{words.difference(found, unit)} {words.mark(found['verdict'])}")
            rows.append(row)
        for aggregate, found in task["summary"].items():
            rows.append([aggregate, *(_summary(found["checkpoints"].get(name)) for name in names)])
            rows[-1] += [_summary(found["differences"].get(name)) for name in names[1:]]
        lines += ["", f"{task['name']}: {words.counted(task)}", *_aligned(rows)]
        if task["problem"]:
            lines.append(f"  Not scored: {task['problem']}")
        for name, replies in task["replies"].items():
            lines += [f"  failed, {name}: {count} x {reason}" for reason, count in replies["reasons"].items()]
        lines += [f"  {words.headline(report, task, name)}" for name in names[1:]]
    lines += [f"  {sentence}" for sentence in dict.fromkeys(report["unavailable"].values())]
    return "\n".join(lines).strip("\n")


def _summary(found: Mapping[str, Any] | None) -> str:
    return words.NOTHING if found is None else f"{found['value']:.2f}{words.interval(found, '')}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
