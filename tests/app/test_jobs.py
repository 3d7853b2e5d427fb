"""Jobs as real processes: one at a time on a device, stopped, resumed, and told apart when they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from app.jobs import processes
from app.jobs.devices import host
from app.jobs.job import AT_ONCE, GENTLY, JobError
from app.jobs.launchers import LAUNCHERS, Polled
from app.jobs.reconcile import reconcile
from tests.app.jobs_bench import JobsBench, straight
from wavalign.training.journal import read_lines

HELD = ("--steps", "10", "--hold", "3")
"""A job that is not over before a test lets it go."""


@pytest.fixture
def bench(tmp_path: Path):
    bench = JobsBench(tmp_path)
    yield bench
    bench.close()


def test_a_job_runs_to_its_end_and_frees_the_device(bench: JobsBench) -> None:
    job = bench.start("--steps", "6")
    ended = bench.ended(job)
    assert (ended.state, ended.reason, ended.attempt) == ("completed", None, 1)
    assert [line["step"] for line in read_lines(job.folder / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert json.loads((job.folder / "result.json").read_text())["status"] == "completed"
    assert bench.jobs.queue.holds() == {}
    assert processes.tagged(job.id) == []
    assert not processes.is_alive(ended.runner, ended.born)


def test_of_two_people_who_start_at_once_the_second_waits_then_runs(bench: JobsBench) -> None:
    jobs: list = []
    start = [threading.Thread(target=lambda n=n: jobs.append(bench.start(*HELD, name=n))) for n in ("a", "b")]
    for thread in start:
        thread.start()
    for thread in start:
        thread.join()
    waiting = bench.jobs.places()
    assert len(waiting) == 1
    first, second = sorted(jobs, key=lambda job: job.id in waiting)
    assert bench.jobs.queue.holds() == {f"{host()}/cpu": first.id}
    for job in jobs:
        bench.let_go(job)
    # Nobody looks: the first job's runner starts the second.
    bench.until(lambda: bench.get(second).state == "completed")
    lines = [read_lines(job.folder / "metrics.jsonl") for job in (first, second)]
    assert lines[1][0]["time"] >= lines[0][-1]["time"]


def test_the_highest_priority_waits_least(bench: JobsBench) -> None:
    blocker = bench.start("--steps", "5000")
    low, high, middle = (bench.start("--steps", "2", name=n, priority=p) for n, p in (("l", 0), ("h", 9), ("m", 5)))
    assert bench.jobs.places() == {high.id: 1, middle.id: 2, low.id: 3}
    bench.jobs.prefer(low.id, 7)
    assert bench.jobs.places() == {high.id: 1, low.id: 2, middle.id: 3}
    bench.jobs.stop(blocker.id, AT_ONCE)
    bench.until(lambda: all(bench.get(job).state == "completed" for job in (low, high, middle)))
    started = [bench.get(job).started for job in (high, low, middle)]
    assert started == sorted(started)


def test_a_cancelled_job_never_starts(bench: JobsBench) -> None:
    first, second = bench.start(*HELD), bench.start(name="never")
    assert bench.jobs.stop(second.id) == "Cancelled: it will not start."
    bench.let_go(first)
    bench.ended(first)
    bench.jobs.look()
    time.sleep(0.3)
    cancelled = bench.get(second)
    assert (cancelled.state, cancelled.attempt) == ("stopped", 0)
    assert not (second.folder / "attempts").exists()


def test_cancelling_and_claiming_at_once_have_one_winner(bench: JobsBench) -> None:
    queue = bench.jobs.queue
    for turn in range(10):
        folder = bench.home / "runs" / f"race-{turn}"
        job = queue.add("race", folder)
        results: dict[str, object] = {}
        threads = [
            threading.Thread(target=lambda r=results: r.update(claimed=queue.claim("here", ["here/cpu"]))),
            threading.Thread(target=lambda r=results, j=job: r.update(gone=queue.move(j.id, ["queued"], "stopped"))),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (results["claimed"] is None) == results["gone"]
        if results["claimed"]:
            queue.finish(job.id, 1, "stopped", "")


def test_stop_saves_and_resume_goes_on_exactly(bench: JobsBench) -> None:
    job = bench.start("--steps", "60", "--hold", "40")
    bench.at(job, 7)
    bench.jobs.stop(job.id)
    stopped = bench.ended(job)
    assert stopped.state == "stopped"
    assert stopped.reason.startswith("Stopped after step ")
    assert stopped.reason.endswith("on request.")
    bench.let_go(job)
    bench.jobs.resume(job.id)
    assert bench.ended(job).state == "completed"
    lines = read_lines(job.folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert {line["attempt"] for line in lines} == {1, 2}
    assert (job.folder / "weights").read_text() == straight(60)


def test_a_home_that_cannot_be_written_is_one_sentence(bench: JobsBench) -> None:
    (bench.home / "runs").rmdir() if (bench.home / "runs").exists() else None
    (bench.home / "runs").write_text("a file where the folder should be")
    with pytest.raises(JobError, match="cannot be made"):
        bench.start()
    assert bench.jobs.queue.jobs() == []
    (bench.home / "runs").unlink()


def test_a_runner_that_cannot_start_is_a_crash_with_its_reason(
    bench: JobsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAVALIGN_DATABASE", "nonsense://")
    ended = bench.ended(bench.start("--steps", "3"))
    assert ended.state == "crashed"
    assert ended.reason.startswith("The job's runner did not start: ")
    assert "nonsense" in ended.reason
    assert bench.jobs.queue.holds() == {}


def test_a_runner_that_takes_its_time_to_load_is_waited_for(bench: JobsBench) -> None:
    job = bench.jobs.queue.add("slow", bench.home / "runs" / "slow")
    claimed = bench.jobs.queue.claim(host(), [f"{host()}/cpu"])
    loading = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    born = processes.birth(loading.pid)
    bench.jobs.queue.move(job.id, ["starting"], started=0.0, handle={"pid": loading.pid, "born": born})
    try:
        bench.jobs.look()
        assert (bench.get(job).state, bench.get(job).attempt) == ("starting", claimed.attempt)
    finally:
        loading.kill()
        loading.wait()
    bench.jobs.look()
    assert bench.get(job).state == "crashed"


class Courier:
    """A launcher that takes its time to hand a job over; ``meanwhile`` is what happens then."""

    stopped: list[tuple[int, dict]] = []  # noqa: RUF012
    meanwhile = staticmethod(lambda job: None)

    def submit(self, job, home: Path, assets: Path) -> dict:
        type(self).meanwhile(job)
        return {"id": "far away"}

    def stop(self, job, level: int) -> None:
        type(self).stopped.append((level, dict(job.handle)))


@pytest.fixture
def courier(monkeypatch: pytest.MonkeyPatch) -> type[Courier]:
    monkeypatch.setitem(LAUNCHERS, "courier", f"{__name__}:Courier")
    monkeypatch.setattr(Courier, "stopped", [])
    return Courier


def test_a_stop_while_a_job_is_handed_over_reaches_it_afterwards(
    bench: JobsBench, courier: type[Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "meanwhile", staticmethod(lambda job: bench.jobs.stop(job.id)))
    job = bench.start(launcher="courier")
    assert bench.get(job).state == "stopping"
    assert courier.stopped == [(GENTLY, {"id": "far away"})]


def test_a_job_that_is_being_handed_over_is_not_handed_over_twice(
    bench: JobsBench, courier: type[Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def a_long_time(job) -> None:
        bench.jobs.queue.move(job.id, ["starting"], started=0.0)
        reconcile(bench.jobs.queue, bench.home)
        seen.append(bench.get(job))

    monkeypatch.setattr(courier, "meanwhile", staticmethod(a_long_time))
    monkeypatch.setattr(courier, "poll", lambda self, job: Polled(None), raising=False)
    bench.start(launcher="courier")
    assert [(job.state, job.attempt) for job in seen] == [("starting", 1)]


def test_a_launcher_that_breaks_leaves_a_reason(
    bench: JobsBench, courier: type[Courier], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(job) -> None:
        raise KeyError("the cluster's own mistake")

    monkeypatch.setattr(courier, "meanwhile", staticmethod(broken))
    job = bench.get(bench.start(launcher="courier"))
    assert job.state == "failed"
    assert "The launcher courier failed: KeyError" in job.reason


def test_an_end_that_a_full_disk_does_not_take_gets_the_space_that_was_held_back(
    bench: JobsBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = bench.jobs.queue
    job = queue.add("x", bench.home / "runs" / "x")
    assert queue.claim("here", ["here/cpu"]).id == job.id
    queue.spare.keep()
    assert queue.spare.path.stat().st_size == 2**20
    writing = bench.store.writing

    def while_there_is_space():
        if queue.spare.path.exists():
            raise OperationalError("UPDATE", {}, Exception("database or disk is full"))
        return writing()

    monkeypatch.setattr(bench.store, "writing", while_there_is_space)
    assert queue.finish(job.id, 1, "crashed", "The disk is full.")
    assert queue.get(job.id).reason == "The disk is full."


# What is left, and what is found again


def test_deleting_says_what_goes_and_takes_it(bench: JobsBench) -> None:
    job = bench.start(*HELD)
    with pytest.raises(JobError, match="stop it first"):
        bench.jobs.delete(job.id)
    bench.let_go(job)
    bench.ended(job)
    assert bench.jobs.contents(job.id).words().startswith("Metrics, log, 2 checkpoints, 0 recordings: ")
    bench.jobs.delete(job.id)
    assert bench.jobs.queue.jobs() == []
    assert list((bench.home / "runs").iterdir()) == []


def test_runs_without_rows_are_found_again(bench: JobsBench) -> None:
    job = bench.start("--steps", "6", priority=3)
    bench.ended(job)
    assert bench.jobs.queue.remove(job.id)
    bench.jobs._adopted = float("-inf")
    bench.jobs.look()
    (found,) = bench.jobs.queue.jobs()
    assert (found.folder, found.state, found.priority) == (job.folder, "completed", 3)


def test_a_job_that_needs_more_devices_than_there_are_fails_and_does_not_block(bench: JobsBench) -> None:
    queue = bench.jobs.queue
    big = queue.add("big", bench.home / "big", processes=4)
    small = queue.add("small", bench.home / "small")
    devices = ["here/gpu:a", "here/gpu:b"]
    assert queue.claim("here", devices) is None
    assert "needs 4 GPUs, and this machine has 2" in queue.get(big.id).reason
    assert queue.claim("here", devices).id == small.id


def test_a_large_job_is_not_overtaken_for_ever(bench: JobsBench) -> None:
    queue, devices = bench.jobs.queue, ["here/gpu:a", "here/gpu:b"]
    first = queue.add("first", bench.home / "1")
    assert queue.claim("here", devices).id == first.id
    both = queue.add("both", bench.home / "2", processes=2)
    queue.add("single", bench.home / "3")
    assert queue.claim("here", devices) is None
    queue.finish(first.id, 1, "completed", "")
    assert queue.claim("here", devices).id == both.id
    assert len(queue.holds()) == 2


def test_what_a_killed_job_left_on_the_device_is_ended_before_the_next_and_other_homes_are_left_alone(
    bench: JobsBench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def left_behind(job: str, home: Path) -> subprocess.Popen:
        marks = {processes.TAG: job, processes.HOME: str(home)}
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, **marks})

    ours = left_behind("forgotten", bench.home)
    theirs = left_behind("of another home", tmp_path_factory.mktemp("another"))
    try:
        assert bench.ended(bench.start("--steps", "3")).state == "completed"
        assert ours.wait(10) != 0
        assert theirs.poll() is None
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()
