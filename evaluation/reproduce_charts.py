"""The comparison's pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.svg_charts import NEUTRAL, Line, Mark, cross_chart, interval_chart, line_chart


def charts(found: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG, of a summary."""
    rows: Mapping[str, Any] = found["variants"]
    colours = {name: number for number, name in enumerate(rows)}
    return {
        "accuracy-and-wer.svg": _plane(found, colours, "wer/own", "word errors of its speech, %"),
        "accuracy-and-delivery.svg": _plane(found, colours, "delivery/own", "replies in the fitting delivery, %"),
        "against-sft.svg": _differences(rows, "minus_sft", "Sampled accuracy against SFT", colours),
        "against-base.svg": _differences(rows, "minus_base", "Sampled accuracy against the base", colours),
        "lambda.svg": _trajectory(rows, "mix/lambda", "Weight of the preference term", "lambda", colours),
        "reward.svg": _trajectory(
            rows, "reward", "Reward of sampled replies while training", "reward, 1 to 5", colours
        ),
        "equal-cpu.svg": _by_time(rows, colours),
        "drift.svg": _drift(rows, colours),
    }


def write_charts(found: Mapping[str, Any], page: Path) -> list[Path]:
    """Those that ``page`` shows, into the folder beside it that has its name."""
    folder, text = page.with_suffix(""), page.read_text(encoding="utf-8")
    paths = []
    for name, svg in charts(found).items():
        if f"({folder.name}/{name})" in text:
            folder.mkdir(parents=True, exist_ok=True)
            paths.append(folder / name)
            paths[-1].write_text(svg, encoding="utf-8")
    return paths


def _plane(found: Mapping[str, Any], colours: Mapping[str, int], of_speech: str, label: str) -> str:
    marks = []
    everybody = {"base": found["base"], **found["variants"]}
    for name, row in everybody.items():
        accuracy, speech = row["measures"].get("accuracy/sampled"), row["measures"].get(of_speech)
        if accuracy and speech:
            x, y = _percent(speech), _percent(accuracy)
            colour = NEUTRAL if name == "base" else colours[name]
            marks.append(Mark(name, y[0], y[1], y[2], x[0], x[1], x[2], colour))
    return cross_chart("Words against speech, held-out prompts", label, "right replies, %", marks)


def _differences(rows: Mapping[str, Any], key: str, title: str, colours: Mapping[str, int]) -> str:
    marks = []
    for name, row in rows.items():
        difference = row[key].get("accuracy/sampled")
        if difference:
            value, low, high = _percent(difference)
            marks.append(Mark(name, value, low, high, colour=colours[name]))
    return interval_chart(title, "points, paired by seed and prompt, with 95 % intervals", marks, zero=True)


def _trajectory(rows: Mapping[str, Any], metric: str, title: str, label: str, colours: Mapping[str, int]) -> str:
    lines = [
        Line(name, [(step, value) for step, value in run[metric]], colours[name], faint=number > 0)
        for name, row in rows.items()
        for number, run in enumerate(row["runs"])
        if metric in run and not (metric == "mix/lambda" and _constant(run[metric]))
    ]
    return line_chart(title, "step", label, lines)


def _by_time(rows: Mapping[str, Any], colours: Mapping[str, int]) -> str:
    name_of = "eval/semantic/accuracy"
    lines = [
        Line(name, [(seconds, 100 * value) for _, seconds, value in run[name_of]], colours[name], faint=number > 0)
        for name, row in rows.items()
        for number, run in enumerate(row["runs"])
        if name_of in run and row["timed"]
    ]
    return line_chart(
        "Right replies by time spent, validation prompts", "seconds of one core, steps only", "right replies, %", lines
    )


def _drift(rows: Mapping[str, Any], colours: Mapping[str, int]) -> str:
    name_of = "eval/acoustic/nll_speech"
    lines = [
        Line(name, [(step, value) for step, _, value in run[name_of]], colours[name], faint=number > 0)
        for name, row in rows.items()
        for number, run in enumerate(row["runs"])
        if name_of in run
    ]
    return line_chart("Drift of speech: surprise at demonstrations", "step", "nats a speech token", lines)


def _constant(points: list[list[float]]) -> bool:
    return len({value for _, value in points}) == 1


def _percent(estimate: Mapping[str, float]) -> tuple[float, float, float]:
    return 100 * estimate["value"], 100 * estimate["low"], 100 * estimate["high"]
