"""Kills at awkward moments: of the trainer, of its runner, of the app, while it trains and while it saves.

Whatever is killed: the last complete checkpoint loads, the run goes on exactly, no tagged process is left, the device
is free, and no row of metrics is missing or there twice. More of them, with the real trainer too:

    python -m tests.app.kill_matrix --rounds 20
    python -m tests.app.kill_matrix_real
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.jobs_bench import JobsBench
from tests.app.kill_matrix import KILLS, one_kill
from tests.app.kill_matrix_real import KILLS as REAL_KILLS
from tests.app.kill_matrix_real import Matrix, undisturbed


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.name)
def test_the_run_goes_on_exactly_after(kill, tmp_path: Path) -> None:
    bench = JobsBench(tmp_path)
    try:
        one_kill(bench, kill, step=8)
    finally:
        bench.close()


@pytest.mark.long
def test_the_real_trainer_goes_on_exactly_after_a_kill_while_it_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kill,) = (each for each in REAL_KILLS if each.name == "SIGKILL of the trainer while it saves")
    matrix = Matrix(tmp_path, steps=9, apps=False)
    try:
        never = undisturbed(matrix, monkeypatch)
        monkeypatch.undo()
        job = matrix.queued("killed")
        matrix.kill(job, kill, None, after=3)
        assert matrix.ended(job).state == "crashed"
        matrix.check(job, never)
        matrix.jobs.resume(job.id)
        ended = matrix.ended(job)
        assert ended.state == "completed", ended.reason
        matrix.same(job, never)
    finally:
        matrix.close()
