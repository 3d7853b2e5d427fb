"""How figures, differences and verdicts are written, in every report alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]
_NAMES = {"wer": "WER", "f0": "F0", "sd": "SD", "dnsmos": "DNSMOS", "utmos": "UTMOS", "ifeval": "IFEval", "bbh": "BBH"}
_MARKS = {"better": "▲", "worse": "▼", "higher": "↑", "lower": "↓"}
NOTHING = "–"


def label(name: str) -> str:
    """A metric's name for people: "f0_sd" is "F0 SD"."""
    words = [_NAMES.get(word, word) for word in name.replace("-", "_").split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def number(value: float | None, unit: str) -> str:
    """A value without its unit."""
    if value is None:
        return NOTHING
    return _unsigned_zero(f"{100 * value:.1f}" if unit == "%" else f"{value:.2f}")


def _unsigned_zero(text: str) -> str:
    """-0.0 would say that something fell."""
    return text.lstrip("-") if not any(digit in text for digit in "123456789") else text


def figure(found: Json, unit: str) -> str:
    """ "55.7 % (50.0 to 61.2)"."""
    if found["value"] is None:
        return "not measured"
    return f"{number(found['value'], unit)} {unit}".strip() + interval(found, unit)


def interval(found: Json, unit: str) -> str:
    if found["low"] is None:
        return ""
    return f" ({number(found['low'], unit)} to {number(found['high'], unit)})"


def difference(found: Json, unit: str) -> str:
    """ "+8.0 points (3.0 to 13.0)"."""
    if found["value"] is None:
        return "not measured on both"
    if found["value"] == found["low"] == found["high"] == 0:
        return "alike on every prompt"  # an interval of no width would claim more
    shown = f"{100 * found['value']:+.1f}" if unit == "%" else f"{found['value']:+.2f}"
    shown = f"+{_unsigned_zero(shown.lstrip('+'))}" if not shown.strip("+-0.") else shown
    return f"{shown} {difference_unit(unit)}".strip() + interval(found, unit)


def difference_unit(unit: str) -> str:
    """A difference of shares is in points, of pitches in semitones whatever they are counted from."""
    return "points" if unit == "%" else unit.partition(" re ")[0]


def mark(verdict: str) -> str:
    """A sign to go before a verdict, so that it is not told by colour alone."""
    return f"{_MARKS[verdict]} {verdict}" if verdict in _MARKS else verdict


def headline(report: Json, task: Json, checkpoint: str) -> str:
    """One or two sentences about a checkpoint on a task: its headline metric, then what became worse."""
    base = report["plan"]["checkpoints"][0]
    if not task["metrics"]:
        return f"{checkpoint} on {task['name']}: nothing could be measured."
    first = task["metrics"][0]
    found, name = first["differences"][checkpoint], label(first["name"])
    said = (
        f"{checkpoint} on {task['name']}: {name.lower() if first['kind'] == 'semantic' else name} "
        f"{figure_short(first['checkpoints'][checkpoint], first['unit'])} against "
        f"{figure_short(first['checkpoints'][base], first['unit'])} of {base}: "
        f"{difference(found, first['unit'])}, {found['verdict']}."
    )
    worse = [label(m["name"]) for m in task["metrics"][1:] if m["differences"][checkpoint]["verdict"] == "worse"]
    return f"{said} Worse: {', '.join(worse)}." if worse else f"{said} Nothing else became clearly worse."


def figure_short(found: Json, unit: str) -> str:
    return f"{number(found['value'], unit)} {unit}".strip()


def counted(task: Json) -> str:
    """What the figures of a task rest on."""
    prompts, samples = task["prompts"], task["samples"]
    said = f"{prompts} prompt{'s' * (prompts != 1)}, {samples} sampled repl{'ies' if samples != 1 else 'y'} each"
    failed = {name: found["failed"] for name, found in task["replies"].items() if found["failed"]}
    if not failed:
        return f"{said}; none failed."
    return f"{said}; without a reply: {', '.join(f'{count} of {name}' for name, count in failed.items())}."


def multiplicity(task: Json) -> str:
    """How often chance alone would make a verdict."""
    intervals = sum(len(m["differences"]) for m in task["metrics"])
    return (
        f"{intervals} differences, each with its own 95 % interval: about one in twenty would exclude 0 by chance. "
        "The breakdowns are for finding where to look."
    )
