"""Probe: a human speaker whose recordings were never trained on."""

from __future__ import annotations

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_users import recordings_figures
from evaluation.figures import Section

COUNT = 200


def sections(bench: Bench) -> list[Section]:
    """Digits of the fourth human speaker, spliced into carrier sentences."""
    recordings = bench.recordings("probe_human", COUNT)
    return [Section("Probe: the fourth human speaker", recordings_figures(bench, recordings, "human", "human digits"))]
