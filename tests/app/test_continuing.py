"""Where everything ends with the app, jobs save before the end, and go on after the next start by themselves."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.jobs import processes
from app.jobs.continuing import MOST_TRIES, go_on, pause
from app.jobs.job import FINAL, Job
from tests.app.jobs_bench import JobsBench, straight
from wavalign.training import checkpoints


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[JobsBench]:
    made = JobsBench(tmp_path)
    yield made
    made.close()


def weights(job) -> str:
    return (checkpoints.latest(job.folder / "checkpoints").folder / "weights").read_text()


def gone(bench: JobsBench, job: Job) -> None:
    """Waits until the runner is gone, as everything is when a machine starts again."""
    runner = bench.get(job)
    bench.until(lambda: not processes.is_alive(runner.runner, runner.born))


def test_a_job_saves_before_the_end_and_goes_on_after_the_start(bench: JobsBench):
    job = bench.start("--steps", "60", "--hold", "50", "--every", "1000")
    bench.at(job, 5)
    assert pause(bench.jobs.queue, bench.home, 300.0) == 0
    assert bench.get(job).state == "stopped"
    assert checkpoints.latest(job.folder / "checkpoints").step >= 5
    bench.let_go(job)
    (again,) = go_on(bench.jobs.queue, bench.home)
    assert again.id == job.id
    ended = bench.ended(job)
    assert (ended.state, ended.attempt) == ("completed", 2)
    assert weights(job) == straight(60)
    assert go_on(bench.jobs.queue, bench.home) == []


def test_a_job_that_died_with_its_machine_goes_on_from_its_last_save(bench: JobsBench):
    job = bench.start("--steps", "60", "--hold", "50", "--every", "4")
    bench.at(job, 10)
    trainer = bench.trainer(job)
    bench.kill(bench.get(job).runner)
    with contextlib.suppress(ProcessLookupError):  # without its runner it saves and ends by itself
        bench.kill(trainer)
    gone(bench, job)
    bench.jobs.queue.move(job.id, ("starting", "running"), host="the-container-before")
    bench.let_go(job)
    assert [each.id for each in go_on(bench.jobs.queue, bench.home)] == [job.id]
    assert bench.ended(job).state == "completed"
    assert weights(job) == straight(60)


def test_a_job_whose_runner_lives_is_left_alone(bench: JobsBench):
    job = bench.start("--steps", "5000")
    bench.at(job, 3)
    assert go_on(bench.jobs.queue, bench.home) == []
    assert bench.get(job).state in ("starting", "running")


def test_a_job_that_a_person_stopped_stays_stopped(bench: JobsBench):
    job = bench.start("--steps", "4000", "--deaf", graces={"ask": 300.0, "term": 300.0, "kill": 10.0})
    bench.at(job, 3)
    bench.jobs.stop(job.id)
    bench.kill(bench.get(job).runner)
    gone(bench, job)
    for process in processes.tagged(job.id):
        bench.kill(process.pid, signal.SIGKILL)
    bench.until(lambda: not processes.tagged(job.id))
    assert go_on(bench.jobs.queue, bench.home) == []
    assert bench.get(job).state == "stopped"


def test_a_job_that_ends_the_machine_again_and_again_does_not_go_on_for_ever(bench: JobsBench):
    job = bench.jobs.queue.add("hog-001", bench.home / "runs" / "hog-001")
    for _ in range(MOST_TRIES):
        assert bench.jobs.queue.claim("the-container-before", ("the-container-before/cpu",)).id == job.id
        assert [each.id for each in go_on(bench.jobs.queue, bench.home)] == [job.id]
    bench.jobs.queue.claim("the-container-before", ("the-container-before/cpu",))
    assert go_on(bench.jobs.queue, bench.home) == []
    left = bench.get(job)
    assert left.state in FINAL
    assert "Resume tries once more" in left.reason
