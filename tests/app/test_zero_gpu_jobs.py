"""Training on a GPU that is lent by the call: slices in forked workers, the bytes of an undisturbed run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app import lending
from app.borrowing import BorrowError, Gpu
from app.jobs import dispatch
from app.jobs.job import FINAL, GENTLY, Job
from app.jobs.jobs import Jobs
from app.jobs.launchers import zero_gpu
from app.jobs.reconcile import _alone as reconciling
from app.jobs.reconcile import reconcile
from app.store import open_store
from tests.training import letters  # noqa: F401  (its reward is known from here on)
from tests.training.test_loop import measured, train
from tests.training.tiny_run import make_assets, small
from wavalign.models.registry import Registry
from wavalign.training import slices


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_assets(tmp_path_factory.mktemp("training-assets"))


@pytest.fixture
def gpu(borrowed_calls: Path, tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    monkeypatch.setattr(zero_gpu, "PAUSES", (0.01,))
    made = Gpu(Registry(assets, tmp_path), 60, slice_seconds=40)
    yield made
    lending.lend(None)
    zero_gpu._known.clear()


@pytest.fixture
def jobs(tmp_path: Path, assets: Path) -> Iterator[Jobs]:
    store = open_store(tmp_path)
    yield Jobs(store, tmp_path, assets)
    store.close()


def ended(jobs: Jobs, job: Job) -> Job:
    deadline = time.monotonic() + 120
    while (now := jobs.queue.get(job.id)).state not in FINAL:
        assert time.monotonic() < deadline, f"{now.state}: {now.reason}"
        reconcile(jobs.queue, jobs.home)
        time.sleep(0.05)
    return now


def calls(tmp_path: Path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def start(jobs: Jobs, **how: object) -> Job:
    config = small("wavalign", steps=how.pop("steps", 3), checkpoints={"every": 100, "keep": 2})
    return jobs.start(config, launcher="zerogpu", **how)


def test_a_sliced_job_gives_the_bytes_of_an_undisturbed_run(
    gpu: Gpu, jobs: Jobs, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slices, "_FASTER_BY", 1e9)  # every slice is one step
    job = ended(jobs, start(jobs))
    assert (job.state, job.attempt) == ("completed", 1)
    made = [call for call in calls(tmp_path) if call["task"] == "_work"]
    assert [call["duration"] for call in made] == [40, 40, 40]
    whole = tmp_path / "whole"
    train(small("wavalign", steps=3, checkpoints={"every": 100, "keep": 2}), whole, assets)
    assert measured(job.folder) == measured(whole)
    for path in sorted((whole / "adapter").glob("*.safetensors")):
        assert (job.folder / "adapter" / path.name).read_bytes() == path.read_bytes()


def test_a_slice_that_is_cut_off_costs_its_own_steps_only(gpu: Gpu, jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    real, cut = gpu.work, []

    def sometimes(*arguments: object) -> object:
        if not cut:
            cut.append(1)
            raise BorrowError("The GPU was taken back: GPU task aborted.", aborted=True)
        return real(*arguments)

    monkeypatch.setattr(gpu, "work", sometimes)
    assert ended(jobs, start(jobs)).state == "completed"


def test_slices_too_short_for_a_step_end_the_job_with_a_reason(gpu: Gpu, jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    def never(*_: object) -> object:
        raise BorrowError("The GPU was taken back: GPU task aborted.", aborted=True)

    monkeypatch.setattr(gpu, "work", never)
    job = ended(jobs, start(jobs))
    assert job.state == "failed"
    assert "WAVALIGN_SLICE_SECONDS" in job.reason


def test_a_host_that_lends_nothing_for_a_while_is_waited_for(gpu: Gpu, jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    real, refused = gpu.work, []

    def later(*arguments: object) -> object:
        if len(refused) < 8:
            refused.append(1)
            raise BorrowError("No GPU can be borrowed just now: quota exceeded.")
        return real(*arguments)

    monkeypatch.setattr(gpu, "work", later)
    assert ended(jobs, start(jobs)).state == "completed"


def test_a_job_is_stopped_between_steps_and_resumed(gpu: Gpu, jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slices, "_FASTER_BY", 1e9)
    job = start(jobs, steps=40)
    while not (job.folder / "metrics.jsonl").is_file():
        reconcile(jobs.queue, jobs.home)
        time.sleep(0.02)
    jobs.stop(job.id, GENTLY)
    stopped = ended(jobs, job)
    assert stopped.state == "stopped"
    assert "on request" in stopped.reason
    steps = len(measured(job.folder))
    assert 0 < steps < 40
    jobs.resume(job.id)
    jobs.stop(job.id)
    assert ended(jobs, job).attempt == 2


def test_a_budget_in_minutes_counts_over_slices(gpu: Gpu, jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    real = gpu.work

    def noted(target: str, arguments: tuple, seconds: int) -> object:
        asked.append(seconds)
        made = real(target, arguments, seconds)
        return replace(made, seconds=30.0)

    monkeypatch.setattr(slices, "_FASTER_BY", 1e9)
    monkeypatch.setattr(gpu, "work", noted)
    job = ended(jobs, start(jobs, steps=40, minutes=0.75))
    assert asked == [40, 15]  # 45 s in all: 40, then what is left of it after 30
    assert job.state == "completed"
    assert "its budget of 0.75 minutes is used" in job.reason


def test_after_a_restart_of_the_app_the_same_attempt_goes_on(
    gpu: Gpu, jobs: Jobs, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slices, "_FASTER_BY", 1e9)
    job = start(jobs, steps=4)
    while not (job.folder / "checkpoints").is_dir():
        time.sleep(0.01)
    assert zero_gpu.pause(60.0) == 0  # as when the app ends
    assert jobs.queue.get(job.id).state not in FINAL
    zero_gpu._known.clear()  # as in a process that knows nothing
    handle = {**jobs.queue.get(job.id).handle, "pid": 2**22 - 3}
    jobs.queue.move(job.id, ("starting", "running"), handle=handle)
    job = ended(jobs, job)
    assert (job.state, job.attempt) == ("completed", 1)
    train(small("wavalign", steps=4, checkpoints={"every": 100, "keep": 2}), tmp_path / "whole", assets)
    assert measured(job.folder) == measured(tmp_path / "whole")


def test_a_worker_that_is_forked_while_jobs_are_looked_at_holds_up_no_later_look(gpu: Gpu, jobs: Jobs, tmp_path: Path):
    with reconciling(tmp_path) as first:
        assert first
        assert gpu.work("os:getpid", (), 20)  # the worker stays, with every file that was open
    with reconciling(tmp_path) as again:
        assert again


def test_where_no_gpu_is_lent_such_a_job_waits_for_the_app(jobs: Jobs):
    job = start(jobs)
    assert dispatch.dispatch(jobs.queue, jobs.home, jobs.assets) == []
    assert jobs.queue.get(job.id).state == "queued"
