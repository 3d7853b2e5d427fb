"""Probe: the voices of a synthesiser that made none of the training data."""

from __future__ import annotations

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_users import recordings_figures
from evaluation.figures import Section

COUNT = 200


def sections(bench: Bench) -> list[Section]:
    """Held-out questions in the third synthesiser's voices."""
    recordings = bench.recordings("probe_festival", COUNT)
    rows = recordings_figures(bench, recordings, "third_synthesiser", "third synthesiser")
    return [Section("Probe: a third synthesiser's voices", rows)]
