"""Charts are as wide as the longest label of their legend needs."""

from __future__ import annotations

import re

import pytest

from evaluation.svg_charts import Line, Mark, cross_chart, line_chart


def width_of(svg: str) -> float:
    return float(re.search(r'viewBox="0 0 (\d+) ', svg)[1])


@pytest.mark.parametrize(
    "chart",
    [
        lambda label: line_chart("t", "x", "y", [Line(label, [(0, 1), (1, 2)], 0)]),
        lambda label: cross_chart("t", "x", "y", [Mark(label, 1, 0, 2, 1, 0, 2, 0)]),
    ],
    ids=["lines", "crosses"],
)
def test_a_long_label_widens_the_page(chart) -> None:
    short, long = chart("sft"), chart("alpo-anchored@steps=54")
    assert width_of(short) == 760
    starts = float(re.search(r'x="([\d.]+)" y="[\d.]+" text-anchor="start">alpo', long)[1])
    assert width_of(long) - starts > 22 * 7.5
