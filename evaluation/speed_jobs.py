"""What watching costs: a training step with a page open and closed, and the server's work for a look at many runs.

The page belongs to the app, which this package knows nothing of: its own benchmark, ``python -m app.bench_jobs``, runs
as a process and prints figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from evaluation.figures import Figure, Section, Target
from evaluation.speed_timing import SpeedOptions

REFRESH_MS = Target(high=300.0, strict=True)
OVERHEAD = Target(high=0.02, strict=True)
_REPOSITORY = Path(__file__).resolve().parent.parent


def jobs(options: SpeedOptions) -> Section:
    """``turns`` is how many stretches of 20 s a run is watched, and how many it is not.

    Raises:
        RuntimeError: the benchmark failed; with its last line.
    """
    refresh = _figures("refresh", options)
    overhead = _figures("overhead", options, "--turns", str(options.turns))
    runs = f"{refresh['runs']:.0f} runs x {refresh['steps']:,.0f} steps"
    return Section(
        "Watching jobs",
        (
            Figure(
                "overhead",
                "step time, page open against closed",
                overhead["overhead"],
                "%",
                overhead["low"],
                overhead["high"],
                n=int(overhead["turns"]),
                target=OVERHEAD,
                note=f"stretches of 20 s taking turns, {overhead['steps']:.0f} steps; the interval is over turns",
            ),
            Figure("step_s", "a step, page closed", overhead["closed_s"], "s"),
            Figure(
                "server_share",
                "a core's time that an open page takes of the server",
                overhead["server_share"],
                "%",
                target=OVERHEAD,
                note="its own clock, which other load does not move",
            ),
            Figure("refresh_ms", f"a refresh, {runs}, one grows", refresh["growing_ms"], "ms", target=REFRESH_MS),
            Figure("refresh_work_ms", "of that, this process at work", refresh["growing_work_ms"], "ms"),
            Figure("quiet_ms", "a refresh, nothing new", refresh["quiet_ms"], "ms"),
            Figure("redraw_ms", "all curves of all runs again", refresh["redraw_ms"], "ms", target=REFRESH_MS),
            Figure("first_ms", "the first look after a start", refresh["first_ms"], "ms"),
            Figure("caught_up_ms", "until every run is read anew", refresh["caught_up_ms"], "ms"),
            Figure("refresh_mb", "what a refresh sends", refresh["growing_mb"], "MB"),
            Figure("redraw_mb", "all curves of all runs", refresh["redraw_mb"], "MB"),
        ),
    )


def _figures(what: str, options: SpeedOptions, *more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "app.bench_jobs", what, "--json", "--assets", str(options.assets.resolve()), *more]
    done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"app.bench_jobs {what} failed: {said[-1] if said else done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
