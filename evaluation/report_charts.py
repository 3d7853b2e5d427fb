"""The charts of a report as HTML and SVG that need no script and no network: intervals by row, and a radar.

They take their colours from the style sheet around them (``report.css``), so that the same chart stands in a report and
on a page, light or dark, and fits a phone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

MOST_AXES = 12
_SIZE, _RADIUS, _ASIDE = 420, 150, 60
"""Of a radar; labels stand aside of it."""
_RINGS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Row:
    """One line of a forest plot. Without an interval ``said`` tells why. ``kind``: better, worse, or anything else."""

    label: str
    said: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class Axis:
    """One direction of a radar: ``places`` from 0 (centre) to 1 (rim) and what they stand for, by series."""

    label: str
    places: Mapping[str, float]
    said: Mapping[str, str]


def forest(rows: Sequence[Row], unit: str, scale: float = 1.0) -> str:
    """Differences with intervals below each other, around 0; values are multiplied by ``scale`` on the axis."""
    ends = [abs(end) for row in rows for end in (row.low, row.high, row.value) if end is not None]
    reach = _round_up(scale * max(ends, default=0.0)) / scale
    lines = "".join(_forest_row(row, reach) for row in rows)
    ticks = "".join(f"<span>{_signed(scale * reach * part)}</span>" for part in (-1, -0.5, 0, 0.5, 1))
    return (
        f'<div class="ev-forest" role="table" aria-label="Differences in {escape(unit)}">{lines}'
        f'<div class="ev-axis" aria-hidden="true"><span></span><div>{ticks}</div><span>{escape(unit)}</span></div>'
        "</div>"
    )


def _forest_row(row: Row, reach: float) -> str:
    drawn = ""
    if row.value is not None:
        if row.low is not None and row.high is not None:
            left, width = _percent(row.low, reach), 50 * (row.high - row.low) / reach
            drawn = f'<i class="ev-bar" style="left:{left:.2f}%;width:{max(width, 0.4):.2f}%"></i>'
        drawn += f'<i class="ev-dot" style="left:{_percent(row.value, reach):.2f}%"></i>'
    return (
        f'<div class="ev-row" role="row" data-kind="{escape(row.kind)}">'
        f'<span role="rowheader">{escape(row.label)}</span>'
        f'<div class="ev-track" aria-hidden="true">{drawn}</div><span role="cell">{escape(row.said)}</span></div>'
    )


def radar(axes: Sequence[Axis], series: Sequence[str]) -> str:
    """Series over at least three axes; outwards is better on every one of them."""
    if len(axes) < 3:
        return ""
    angles = [2 * math.pi * place / len(axes) - math.pi / 2 for place in range(len(axes))]
    half = _SIZE / 2

    def at(angle: float, place: float) -> tuple[float, float]:
        return half + _RADIUS * place * math.cos(angle), half + _RADIUS * place * math.sin(angle)

    body = [
        '<polygon class="ev-ring" points="' + " ".join("{:.1f},{:.1f}".format(*at(a, ring)) for a in angles) + '"/>'
        for ring in _RINGS
    ]
    for angle, axis in zip(angles, axes, strict=True):
        x, y = at(angle, 1.0)
        body.append(f'<line class="ev-ring" x1="{half}" y1="{half}" x2="{x:.1f}" y2="{y:.1f}"/>')
        body.append(_axis_label(axis, angle, at(angle, 1.0)))
    for number, name in enumerate(series):
        places = [(angle, axis.places[name]) for angle, axis in zip(angles, axes, strict=True) if name in axis.places]
        points = " ".join("{:.1f},{:.1f}".format(*at(angle, place)) for angle, place in places)
        body.append(f'<polygon class="ev-area ev-series-{number % 6}" points="{points}"/>')
        for angle, axis in zip(angles, axes, strict=True):
            if name in axis.places:
                x, y = at(angle, axis.places[name])
                title = f"{name}, {axis.label}: {axis.said[name]}"
                dot = f'<circle class="ev-point ev-series-{number % 6}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
                body.append(f"{dot}<title>{escape(title)}</title></circle>")
    said = "; ".join(
        f"{axis.label}: " + ", ".join(f"{n} {axis.said[n]}" for n in series if n in axis.said) for axis in axes
    )
    box = f"{-_ASIDE} 30 {_SIZE + 2 * _ASIDE} {_SIZE - 60}"
    return f'<svg class="ev-radar" viewBox="{box}" role="img" aria-label="{escape(said)}">{"".join(body)}</svg>'


def legend(series: Sequence[str]) -> str:
    return (
        '<p class="ev-legend">'
        + "".join(
            f'<span><i class="ev-key ev-series-{number % 6}"></i>{escape(name)}</span>'
            for number, name in enumerate(series)
        )
        + "</p>"
    )


def _axis_label(axis: Axis, angle: float, rim: tuple[float, float]) -> str:
    across = math.cos(angle)
    anchor = "middle" if abs(across) < 0.2 else "start" if across > 0 else "end"
    x, y = rim[0] + 12 * across, rim[1] + 18 * math.sin(angle) + 4
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(axis.label)}</text>'


def _percent(value: float, reach: float) -> float:
    return 50 + 50 * value / reach


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value - 1e-12)


def _signed(value: float) -> str:
    return f"{value:+.3g}" if abs(value) > 1e-12 else "0"
