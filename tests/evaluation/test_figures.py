from __future__ import annotations

import pytest

from evaluation.figures import Figure, Section, Target, figure, table, verdict
from evaluation.intervals import Estimate


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(high=0.04), 0.04, True),
        (Target(high=0.04), 0.041, False),
        (Target(low=0.4, high=0.7), 0.39, False),
        (Target(low=0.0, high=1.0, strict=True), 1.0, False),
        (Target(low=0.0, high=1.0, strict=True), 0.5, True),
    ],
)
def test_a_target_is_a_range(target, value, met):
    assert Figure("x", "x", value, target=target).met is met


def test_what_could_not_be_measured_does_not_meet_its_target():
    assert figure("x", "x", None, target=Target(high=1.0)).met is False
    assert figure("x", "x", None).met is None


def test_the_table_shows_shares_in_percent_with_interval_and_verdict():
    sections = [
        Section(
            "Codec",
            (
                figure("wer", "round trip", Estimate(0.123, 0.1, 0.15, 80), "%", Target(high=0.08)),
                figure("mcd", "distortion", Estimate(2.4, 2.3, 2.5, 80), "dB", Target(high=2.6)),
            ),
        )
    ]
    text = table(sections)
    assert "12.3 %" in text
    assert "10.0 .. 15.0" in text
    assert "at most 8.0" in text
    assert "falls short" in text
    assert "2.40 dB" in text
    assert verdict(sections) == "1 of 2 targets met. Short of: round trip."
