"""Small charts as SVG text: lines, values with intervals, points with crosses. They follow the reader's light or dark
colours, hold no script and load nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = (
    *("#4269d0", "#efb118", "#ff725c", "#3ca951", "#a463f2", "#9c6b4e"),
    *("#6cc5b0", "#ff8ab7", "#b8b000", "#97bbf5", "#0f8a9d", "#b3404a"),
)
NEUTRAL = -1
"""The colour of what others are compared with."""
_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 190, 44, 52
_CHARACTER = 7.8
"""The width of a label's letter, as a rule."""
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600;font-size:15px}.m{fill:#59636e}"
    ".g{stroke:#d1d9e0;stroke-width:1}.z{stroke:#59636e;stroke-width:1;stroke-dasharray:4 3}.b{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.m{fill:#9198a1}.g{stroke:#3d444d}.z{stroke:#9198a1}"
    ".b{fill:#0d1117}}"
)


@dataclass(frozen=True)
class Line:
    """One curve; ``points`` are (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    faint: bool = False


@dataclass(frozen=True)
class Mark:
    """One value with its interval in y, and in x where it has one."""

    label: str
    y: float
    low: float
    high: float
    x: float | None = None
    x_low: float | None = None
    x_high: float | None = None
    colour: int = 0


def line_chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """Curves over a common x; lines with the same label share one entry of the legend."""
    points = [point for line in lines for point in line.points]
    if not points:
        return _page(title, [_text(_WIDTH / 2, _HEIGHT / 2, "nothing to show yet", "m", "middle")])
    scale = _Scale([p[0] for p in points], [p[1] for p in points])
    body = scale.axes(x_label, y_label)
    for line in lines:
        path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in line.points)
        body.append(
            f'<polyline points="{path}" fill="none" stroke="{_colour(line.colour)}" '
            f'stroke-width="{1.2 if line.faint else 2.2}" stroke-opacity="{0.45 if line.faint else 1}"/>'
        )
    legend = {line.label: line.colour for line in lines}
    return _page(title, body + _legend(list(legend.items())), width=_wide_enough(legend))


def cross_chart(title: str, x_label: str, y_label: str, marks: Sequence[Mark]) -> str:
    """Points in a plane, each with its intervals as a cross."""
    if not marks:
        return line_chart(title, x_label, y_label, [])
    xs = [v for m in marks for v in (m.x, m.x_low, m.x_high) if v is not None]
    scale = _Scale(xs, [v for m in marks for v in (m.low, m.high)])
    body = scale.axes(x_label, y_label)
    for mark in marks:
        x, colour = scale.x(mark.x or 0.0), _colour(mark.colour)
        body.append(_rule(x, scale.y(mark.low), x, scale.y(mark.high), colour))
        if mark.x_low is not None and mark.x_high is not None:
            body.append(_rule(scale.x(mark.x_low), scale.y(mark.y), scale.x(mark.x_high), scale.y(mark.y), colour))
        body.append(f'<circle cx="{x:.1f}" cy="{scale.y(mark.y):.1f}" r="5" fill="{colour}"/>')
    legend = [(mark.label, mark.colour) for mark in marks]
    return _page(title, body + _legend(legend), width=_wide_enough(mark.label for mark in marks))


def interval_chart(title: str, x_label: str, marks: Sequence[Mark], zero: bool = False) -> str:
    """Values with intervals, one below the other; ``zero`` draws a line at 0."""
    if not marks:
        return line_chart(title, x_label, "", [])
    height = _TOP + _BOTTOM + 26 * len(marks)
    ends = [v for m in marks for v in (m.low, m.high)] + ([0.0] if zero else [])
    left = 30 + 7.2 * max(len(mark.label) for mark in marks)
    low, high, ticks = _ticks(min(ends), max(ends))

    def place(value: float) -> float:
        return left + (_WIDTH - 40 - left) * (value - low) / (high - low)

    body = [
        f'<line class="g" x1="{place(t):.1f}" y1="{_TOP}" x2="{place(t):.1f}" y2="{height - _BOTTOM}"/>' for t in ticks
    ]
    body += [_text(place(t), height - _BOTTOM + 18, _number(t), "m", "middle") for t in ticks]
    body.append(_text((left + _WIDTH - 40) / 2, height - 10, x_label, "m", "middle"))
    if zero:
        body.append(f'<line class="z" x1="{place(0):.1f}" y1="{_TOP}" x2="{place(0):.1f}" y2="{height - _BOTTOM}"/>')
    for row, mark in enumerate(marks):
        y, colour = _TOP + 13 + 26 * row, _colour(mark.colour)
        body.append(_text(left - 10, y + 4, mark.label, "", "end"))
        body.append(_rule(place(mark.low), y, place(mark.high), y, colour))
        body.append(f'<circle cx="{place(mark.y):.1f}" cy="{y}" r="5" fill="{colour}"/>')
    return _page(title, body, height)


class _Scale:
    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x_low, self.x_high, self.x_ticks = _ticks(min(xs), max(xs))
        self.y_low, self.y_high, self.y_ticks = _ticks(min(ys), max(ys))

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - self.x_low) / (self.x_high - self.x_low)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - self.y_low) / (self.y_high - self.y_low)

    def axes(self, x_label: str, y_label: str) -> list[str]:
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        body = []
        for tick in self.y_ticks:
            body.append(f'<line class="g" x1="{_LEFT}" y1="{self.y(tick):.1f}" x2="{right}" y2="{self.y(tick):.1f}"/>')
            body.append(_text(_LEFT - 8, self.y(tick) + 4, _number(tick), "m", "end"))
        for tick in self.x_ticks:
            body.append(_text(self.x(tick), bottom + 18, _number(tick), "m", "middle"))
        body.append(_text((_LEFT + right) / 2, bottom + 38, x_label, "m", "middle"))
        middle = (_TOP + bottom) / 2
        body.append(
            f'<text class="m" text-anchor="middle" transform="translate(18 {middle:.0f}) rotate(-90)">'
            f"{escape(y_label)}</text>"
        )
        return body


def _ticks(low: float, high: float) -> tuple[float, float, list[float]]:
    """A range that ends on round numbers and holds [low, high], and about five of them."""
    if high - low < 1e-12:
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [number * step for number in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) > 1e-12 else "0"


def _colour(number: int) -> str:
    return "#818b98" if number == NEUTRAL else COLOURS[number % len(COLOURS)]


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(entries: Sequence[tuple[str, int]]) -> list[str]:
    body = []
    for row, (label, colour) in enumerate(entries):
        y = _TOP + 10 + 21 * row
        body.append(f'<circle cx="{_WIDTH - _RIGHT + 20}" cy="{y}" r="5" fill="{_colour(colour)}"/>')
        body.append(_text(_WIDTH - _RIGHT + 32, y + 4, label))
    return body


def _wide_enough(labels: Iterable[str]) -> float:
    """A page's width on which the longest of the legend's labels ends."""
    return max(_WIDTH, _WIDTH - _RIGHT + 40 + _CHARACTER * max(len(label) for label in labels))


def _page(title: str, body: Sequence[str], height: float = _HEIGHT, width: float = _WIDTH) -> str:
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    parts = [head, f"<style>{_STYLE}</style>", f'<rect class="b" width="{width:.0f}" height="{height:.0f}"/>']
    return "\n".join([*parts, _text(16, 26, title, "t"), *body, "</svg>"]) + "\n"
