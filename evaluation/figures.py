"""What a benchmark reports: figures with an interval, a target, and whether the target is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.intervals import Estimate


@dataclass(frozen=True)
class Target:
    """The range a figure should lie in; an open end is None. ``strict`` excludes the ends themselves."""

    low: float | None = None
    high: float | None = None
    strict: bool = False

    def met_by(self, value: float) -> bool:
        if self.strict:
            return (self.low is None or value > self.low) and (self.high is None or value < self.high)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


@dataclass(frozen=True)
class Figure:
    """One line of a report. ``value`` None means that it could not be measured; ``unit`` "%" takes shares 0..1.

    ``id`` is stable across versions ("base/accuracy_greedy"); ``note`` says what the reader must know; ``lacking``
    stands where the value would.
    """

    id: str
    label: str
    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    n: int | None = None
    target: Target | None = None
    note: str = ""
    lacking: str = "not measured"

    @property
    def met(self) -> bool | None:
        """None where there is no target; a figure that could not be measured does not meet its target."""
        if self.target is None:
            return None
        return self.value is not None and self.target.met_by(self.value)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"met": self.met}


@dataclass(frozen=True)
class Section:
    """Figures that belong together, under a title."""

    title: str
    figures: tuple[Figure, ...]


def figure(
    id: str, label: str, estimate: Estimate | None, unit: str = "", target: Target | None = None, note: str = ""
) -> Figure:
    """A figure from an estimate; None becomes a figure without a value."""
    if estimate is None:
        return Figure(id, label, None, unit, target=target, note=note or "nothing to measure")
    return Figure(id, label, estimate.value, unit, estimate.low, estimate.high, estimate.n, target, note)


def table(sections: Sequence[Section]) -> str:
    """All sections as aligned text."""
    header = ("", "value", "95 % interval", "n", "target", "", "")
    lines: list[str] = []
    rows = [cells(f) for section in sections for f in section.figures]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header) - 1)]
    for section in sections:
        lines += ["", section.title, _aligned(header, widths)]
        lines += [_aligned(cells(f), widths) for f in section.figures]
    return "\n".join(lines).lstrip("\n")


def verdict(sections: Sequence[Section]) -> str:
    """How many targets are met, and which are not."""
    judged = [f for section in sections for f in section.figures if f.met is not None]
    if not judged:
        return "No targets were checked."
    short = [f.label for f in judged if not f.met]
    met = f"{len(judged) - len(short)} of {len(judged)} targets met."
    return f"{met} Short of: {'; '.join(short)}." if short else met


def cells(f: Figure) -> tuple[str, ...]:
    """Label, value, interval, n, target, verdict and note, as text."""

    def show(value: float | None) -> str:
        return "-" if value is None else _formatter(f.unit)(value)

    interval = "" if f.low is None or f.high is None else f"{show(f.low)} .. {show(f.high)}"
    value = f"{show(f.value)} {f.unit}".strip() if f.value is not None else f.lacking
    mark = {None: "", True: "pass", False: "falls short"}[f.met]
    return f.label, value, interval, "" if f.n is None else str(f.n), _target(f, show), mark, f.note


def _target(f: Figure, show: Callable[[float | None], str]) -> str:
    if f.target is None:
        return ""
    low, high = f.target.low, f.target.high
    if low is not None and high is not None:
        return f"{'strictly ' if f.target.strict else ''}{show(low)} .. {show(high)}"
    if low is not None:
        return f"{'above' if f.target.strict else 'at least'} {show(low)}"
    return f"{'below' if f.target.strict else 'at most'} {show(high)}"


def _formatter(unit: str) -> Callable[[float], str]:
    if unit in ("%", "points"):
        return lambda value: f"{100 * value:.1f}"
    return lambda value: f"{value:.2f}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    parts = [f"  {row[0]:<{widths[0]}}"]
    parts += [f"{cell:>{width}}" for cell, width in zip(row[1:5], widths[1:5], strict=True)]
    parts += [f"{row[5]:<{widths[5]}}", row[6]]
    return "  ".join(parts).rstrip()
