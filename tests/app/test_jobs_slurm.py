"""The Slurm launcher on submitit's local executor: real processes, no cluster."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import pytest

from app.jobs import processes
from app.jobs.job import FINAL, JobError
from app.jobs.launchers.slurm import Slurm
from tests.app.jobs_bench import JobsBench, straight

pytest.importorskip("submitit")
LOCAL = {"launcher": "slurm", "settings": {"cluster": "local", "slurm": {"gpus_per_node": 0}}}


@pytest.fixture
def bench(tmp_path: Path):
    bench = JobsBench(tmp_path)
    yield bench
    bench.close()


def test_a_job_is_submitted_polled_stopped_and_resumed(bench: JobsBench) -> None:
    job = bench.start("--steps", "60", "--hold", "40", **LOCAL)
    bench.at(job, 5)
    assert bench.get(job).state in ("starting", "running")
    assert bench.jobs.queue.holds() == {}  # no device of this machine
    bench.jobs.look()
    assert bench.get(job).state == "running"
    assert "Asked to save" in bench.jobs.stop(job.id)
    stopped = bench.ended(job)
    assert stopped.state == "stopped"
    assert stopped.reason.endswith("on request.")
    bench.let_go(job)
    bench.jobs.resume(job.id)
    assert bench.ended(job).state == "completed"
    assert (job.folder / "weights").read_text() == straight(60)
    assert (job.folder / "attempts" / "002" / "output.log").is_file()


def test_a_batch_job_that_is_gone_is_crashed(bench: JobsBench) -> None:
    job = bench.start("--steps", "5000", **LOCAL)
    bench.at(job, 2)
    for pid in [int(bench.get(job).handle["id"]), *(process.pid for process in processes.tagged(job.id))]:
        with contextlib.suppress(ProcessLookupError):  # it ends by itself once whoever started it is gone
            bench.kill(pid)
    ended = bench.ended(job)
    assert ended.state == "crashed"
    assert ended.state in FINAL


ON_THE_SECOND = 'if [ "$SUBMITIT_LOCAL_GLOBALID" = 1 ]; then {then}; fi; exec "$@"'
"""Of two tasks, which stand for two nodes here."""


@pytest.mark.parametrize(
    ("then", "state", "says"),
    [
        ("sleep 1; exit 0", "completed", ""),
        ("sleep 0.5; echo the switch is on fire; exit 3", "crashed", "Node 1: It ended with code 3"),
    ],
    ids=["both nodes end well", "one node is lost"],
)
def test_the_first_node_speaks_for_all(then: str, state: str, says: str, bench: JobsBench) -> None:
    toy = [sys.executable, "-m", "tests.app.toy_trainer", str(bench.home / "runs" / "toy-001"), "--hold", "3"]
    command = ["bash", "-c", ON_THE_SECOND.format(then=then), "bash", *toy]
    settings = {"cluster": "local", "slurm": {"gpus_per_node": 0, "tasks_per_node": 2}, "command": command}
    job = bench.start(launcher="slurm", settings=settings)
    second = job.folder / "attempts" / "001" / "output-node1.log"
    bench.until(second.is_file)
    if state == "completed":
        bench.let_go(job)
    job = bench.ended(job)
    assert job.state == state
    assert says in (job.reason or "")
    assert not processes.tagged(job.id)


def test_nodes_have_equally_many_processes(bench: JobsBench) -> None:
    settings = {"cluster": "local", "slurm": {"nodes": 2}}
    job = bench.jobs.queue.add("x", bench.home / "x", launcher="slurm", processes=3, settings=settings)
    with pytest.raises(JobError, match="3 processes cannot be shared evenly by 2 machines"):
        Slurm().submit(job, bench.home, bench.home)


def test_slurms_own_states_have_words(bench: JobsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    job = bench.jobs.queue.add("x", bench.home / "runs" / "x", launcher="slurm")
    for state, expected, says in (
        ("TIMEOUT", "crashed", "time limit"),
        ("OUT_OF_MEMORY", "crashed", "ran out of memory"),
        ("PENDING", "starting", "waits for a node"),
        ("UNKNOWN", "starting", ""),
    ):
        monkeypatch.setattr(Slurm, "_slurm_state", lambda self, job, state=state: state)
        polled = Slurm().poll(job)
        assert polled.state == expected
        assert says in polled.reason
    place = job.folder / "attempts" / "000"
    place.mkdir(parents=True)
    (place / "outcome.json").write_text(json.dumps({"state": "completed", "reason": "", "step": 3, "left": []}))
    assert Slurm().poll(job).state == "completed"


def test_without_a_cluster_it_says_so(bench: JobsBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    job = bench.jobs.queue.add("x", bench.home / "runs" / "x", launcher="slurm", settings={"cluster": "slurm"})
    with pytest.raises(JobError, match="Slurm did not take the job"):
        Slurm().submit(job, bench.home, bench.home)
