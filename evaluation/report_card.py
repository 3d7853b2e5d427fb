"""The section of a model card that says how a checkpoint compares; written anew, never twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation import report_words as words
from evaluation.assess_plan import PlanError

BEGIN, END = "<!-- evaluation:begin -->", "<!-- evaluation:end -->"
REPORT = "report.json"
Json = Mapping[str, Any]


def section(report: Json, checkpoint: str) -> str:
    """Markdown: a table for each task with both figures and the difference, and how it was measured."""
    base = report["plan"]["checkpoints"][0]
    lines = [BEGIN, "## Evaluation", ""]
    for task in report["tasks"]:
        compared = checkpoint != base
        head = ["", base, checkpoint, "difference"] if compared else ["", checkpoint]
        lines += [f"**{task['name']}**: {words.counted(task)}", "", _row(head), _row(["---"] * len(head))]
        for metric in task["metrics"]:
            unit, found = metric["unit"], metric["checkpoints"]
            cells = [words.label(metric["name"]), words.figure(found[base], unit)]
            if compared:
                apart = metric["differences"][checkpoint]
                cells += [words.figure(found[checkpoint], unit)]
                cells += [f"{words.difference(apart, unit)}, {apart['verdict']}"]
            lines.append(_row(cells))
        if task["problem"]:
            lines += ["", f"Not scored: {task['problem']}"]
        lines.append("")
    plan = report["plan"]
    command = f"python -m evaluation.run compare --checkpoints {' '.join(plan['checkpoints'])}"
    command += f" --tasks {' '.join(plan['tasks'])}"
    command += "".join(
        f" --{name} {plan[name]}" for name in ("limit", "samples", "seed", "temperature") if plan[name] is not None
    )
    lines += [
        "95 % intervals over prompts; both answered the same prompts with the same sampling seeds. What each measure "
        "says, and what not, is in docs/evaluation.md.",
        "",
        f"    {command} --out FOLDER",
        "",
        END,
    ]
    return "\n".join(lines) + "\n"


def add_to_card(card: Path, work: Path, checkpoint: str) -> Path:
    """Puts the section of the report in ``work`` into a model card, in place of an earlier one.

    Raises:
        PlanError: when there is no report, or it is not about this checkpoint.
    """
    try:
        report = json.loads((work / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"{work} has no report yet: let the evaluation end first.") from error
    if checkpoint not in report["plan"]["checkpoints"]:
        raise PlanError(f'"{checkpoint}" is not among the checkpoints of {work}.')
    text = card.read_text(encoding="utf-8") if card.is_file() else f"# {checkpoint}\n"
    before, found, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if found else ""
    whole = f"{before.rstrip()}\n\n{section(report, checkpoint)}{after.lstrip()}"
    temporary = card.with_name(f".{card.name}.tmp")
    try:
        temporary.write_text(whole, encoding="utf-8")
        temporary.replace(card)
    except OSError as error:
        raise PlanError(f"{card} cannot be written: {error.strerror}.") from error
    return card


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
