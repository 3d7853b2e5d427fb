"""Kills at awkward moments: of the trainer, of its runner, of the app, while it trains and while it saves.

Whatever is killed: the last complete checkpoint loads, the run goes on exactly, no tagged process is left, the device
is free, and no row of metrics is missing or there twice. More of them, with the real trainer too:

    python -m tests.app.kill_matrix --rounds 20
    python -m tests.app.kill_matrix --real
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.jobs_bench import JobsBench
from tests.app.kill_matrix import KILLS, one_kill


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.name)
def test_the_run_goes_on_exactly_after(kill, tmp_path: Path) -> None:
    bench = JobsBench(tmp_path)
    try:
        one_kill(bench, kill, step=8)
    finally:
        bench.close()
