"""One run of the real trainer, killed again and again, against the same run left alone.

    python -m tests.app.kill_matrix_real --seed 0                 12 kills, minutes
    python -m tests.app.kill_matrix_real --processes 2            the trainer as two gloo processes under torchrun

Signals: SIGTERM and SIGKILL. Victims: the trainer, its runner, the app that started the job. Moments: a random step,
and the middle of a checkpoint. After each kill: no process of the job is left, its device is free, the last checkpoint
has the bytes that the undisturbed run has at that step. At the end: the same adapter, and every row of metrics once,
with the same values.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.jobs import processes
from app.jobs.devices import DeviceLock, host
from app.jobs.job import ACTIVE, FINAL, Job
from app.jobs.jobs import Jobs
from app.store import open_store
from tests.app.kill_matrix import Kill
from wavalign.training import checkpoints
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import save_config
from wavalign.training.journal import ADAPTER, ATTEMPT_VARIABLE, CHECKPOINTS, METRICS, read_lines, read_metrics

STEPS = 80
DISK_SECONDS = 0.1
_ENDS = {signal.SIGKILL: "crashed", signal.SIGTERM: "stopped"}
KILLS = tuple(
    Kill(whom, number, ("running" if whom == "app" else _ENDS[number],), saving)
    for whom in ("trainer", "runner", "app")
    for number in (signal.SIGTERM, signal.SIGKILL)
    for saving in (False, True)
)
_CLOCK = ("time", "attempt", "step_time", "perf/", "memory/")


def config_of(steps: int) -> TrainConfig:
    from tests.training.tiny_run import small

    made = small(
        "wavalign",
        steps=steps,
        tuning={"dropout": 0.1},
        checkpoints={"every": 2, "keep": steps},
        evaluation={"every": 10, "prompts": 2, "samples": 1, "spoken": 1, "kept": 1},
    )
    return made.model_copy(update={"rewards": made.rewards.model_copy(update={"weights": {"rule": 1.0}})})


class Matrix:
    """A home with one undisturbed run, and one to be killed."""

    def __init__(
        self, home: Path, steps: int = STEPS, count: int = 1, disk: float = DISK_SECONDS, apps: bool = True
    ) -> None:
        """``apps``: jobs are looked after by apps in processes of their own, and not by this one."""
        from tests.training.tiny_run import make_assets

        self.home, self.steps, self.count, self.disk = home, steps, count, disk
        self.assets = make_assets(home / "assets")
        self.store = open_store(home)
        self.jobs = Jobs(self.store, home, self.assets)
        if apps:
            self.jobs.look = lambda: None

    def queued(self, name: str, slow: bool = True) -> Job:
        folder = self.home / "runs" / f"{name}-001"
        trainer = [str(folder), "--assets", str(self.assets), "--home", str(self.home), "--quiet"]
        module = ["tests.app.slow_disk_trainer", str(self.disk)] if slow else ["wavalign.train"]
        launch = ["torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc-per-node={self.count}", "-m"]
        command = [sys.executable, "-m", *(launch if self.count > 1 else []), *module, *trainer]
        config = config_of(self.steps).model_copy(update={"name": name})
        return self.jobs.start(config, settings={"command": command}, processes=self.count)

    @contextmanager
    def app(self) -> Iterator[subprocess.Popen]:
        """An app: it starts what waits, and reconciles."""
        command = [sys.executable, "-m", "tests.app.kill_matrix", "--watch", str(self.home)]
        own = {"start_new_session": True, "env": {**os.environ, "WAVALIGN_ASSETS": ""}, "stdout": subprocess.DEVNULL}
        watching = subprocess.Popen(command, **own)
        try:
            yield watching
        finally:
            watching.kill()
            watching.wait()

    def get(self, job: Job) -> Job:
        return self.jobs.queue.get(job.id)

    def until(self, condition: Callable[[], Any], seconds: float = 900.0, pause: float = 0.005) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(pause)
        raise AssertionError(f"It did not happen in {seconds:.0f} s: {self.jobs.queue.jobs()}")

    def ended(self, job: Job) -> Job:
        def over() -> bool:
            self.jobs.look()
            return self.get(job).state in FINAL

        self.until(over, pause=0.1)
        return self.get(job)

    def taken(self, job: Job) -> int:
        return max((line["step"] for line in read_lines(job.folder / METRICS)), default=0)

    def kill(self, job: Job, kill: Kill, app: subprocess.Popen | None, after: int) -> int:
        """Kills once the run is ``after`` steps further than its last checkpoint; the step at which it did."""
        saved = checkpoints.latest(job.folder / CHECKPOINTS)
        wanted = (saved.step if saved else 0) + after
        self.until(lambda: self.get(job).state in ACTIVE)
        attempt = self.get(job).attempt
        self.until(
            lambda: any(
                line["step"] >= wanted and line["attempt"] == attempt for line in read_lines(job.folder / METRICS)
            )
        )
        if kill.saving:
            self.until(lambda: list((job.folder / CHECKPOINTS).glob(checkpoints.HALF_WRITTEN)), pause=0.001)
        if kill.whom == "trainer":
            victims = [process.pid for process in processes.tagged(job.id)]
        else:
            victims = [self.get(job).runner if kill.whom == "runner" else app.pid]
        for victim in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, kill.number)
        return self.taken(job)

    def check(self, job: Job, never: Job) -> int:
        """What must hold once an attempt has ended; the step of the last checkpoint."""
        assert processes.tagged(job.id) == []
        assert job.id not in self.jobs.queue.holds().values()
        with DeviceLock(self.home, f"{host()}/cpu"):
            pass
        saved = checkpoints.latest(job.folder / CHECKPOINTS)
        assert saved is not None
        if saved.step % 2 == 0:  # a stop saves at once; the undisturbed run has every second step
            assert described(job, saved.step) == described(never, saved.step)
        return saved.step

    def same(self, job: Job, never: Job) -> None:
        """Every row once, and everything as it would have been."""
        rows, expected = read_metrics(job.folder), read_metrics(never.folder)
        assert [row["step"] for row in rows] == list(range(self.steps + 1))
        raw = [(line["attempt"], line["step"]) for line in read_lines(job.folder / METRICS)]
        assert len(set(raw)) == len(raw), "a row is there twice"
        for row, other in zip(rows, expected, strict=True):
            assert timeless(row) == timeless(other), f"step {row['step']} differs"
        weights = f"{ADAPTER}/adapter_model.safetensors"
        assert (job.folder / weights).read_bytes() == (never.folder / weights).read_bytes()

    def close(self) -> None:
        for job in self.jobs.queue.jobs():
            if job.runner is not None and job.state not in FINAL:
                with contextlib.suppress(OSError):
                    os.kill(job.runner, signal.SIGKILL)
            processes.end(job.id, 0.0)
        self.store.close()


def described(job: Job, step: int) -> dict[str, Any]:
    """A checkpoint's state but for the run's name, and its weights and optimiser as its verified manifest says."""
    import json

    folder = job.folder / CHECKPOINTS / f"step-{step}"
    files = json.loads((folder / checkpoints.MANIFEST).read_text())["files"]
    state = json.loads((folder / checkpoints.STATE).read_text())
    del state["config"]["name"]
    return {"state": state, **{name: files[name] for name in files if name.endswith((".safetensors", ".pt"))}}


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith(_CLOCK)}


def undisturbed(matrix: Matrix, monkeypatch: Any) -> Job:
    """The run left alone, in this process."""
    from wavalign import train

    folder = matrix.home / "undisturbed"
    folder.mkdir()
    save_config(config_of(matrix.steps), folder / "config.yaml")
    monkeypatch.setenv(ATTEMPT_VARIABLE, "1")
    code = train.main([str(folder), "--assets", str(matrix.assets), "--home", str(matrix.home), "--quiet"])
    assert code == 0
    return matrix.jobs.queue.add("undisturbed", folder, state="completed")


def straight(matrix: Matrix) -> Job:
    never = matrix.queued("never", slow=False)
    with matrix.app():
        ended = matrix.ended(never)
    assert ended.state == "completed", ended.reason
    return never


def killed(matrix: Matrix, never: Job, kills: tuple[Kill, ...], chance: random.Random, name: str) -> None:
    job = matrix.queued(name)
    for number, kill in enumerate(kills):
        if number:
            matrix.jobs.resume(job.id)
        with matrix.app() as app:
            step = matrix.kill(job, kill, app, chance.randint(1, 4))
            if kill.whom == "app":
                app.wait()
                assert matrix.get(job).state == "running"
                matrix.until(lambda step=step: matrix.taken(job) >= step + 3)  # it goes on without the app
                expected = "stopped"
            else:
                expected = kill.ends[0]
                ended = matrix.ended(job)
        if kill.whom == "app":
            with matrix.app():  # the app comes back, finds its job, and can stop it
                matrix.jobs.stop(job.id)
                ended = matrix.ended(job)
        assert ended.state == expected, f"{kill.name}: {ended.state}, {ended.reason}"
        saved = matrix.check(job, never)
        print(f"{kill.name} at step {step}: {ended.state}; step {saved} is whole. {ended.reason}", flush=True)
    matrix.jobs.resume(job.id)
    with matrix.app():
        ended = matrix.ended(job)
    assert ended.state == "completed", ended.reason
    matrix.check(job, never)
    matrix.same(job, never)
    print(f"{len(kills)} kills: {matrix.steps} steps with the same rows and the same adapter as without one.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.app.kill_matrix_real", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="runs that are killed")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        matrix = Matrix(Path(scratch), count=options.processes)
        try:
            never = straight(matrix)
            for number in range(options.rounds):
                kills = list(KILLS)
                chance.shuffle(kills)
                killed(matrix, never, tuple(kills), chance, f"killed-{number + 1}")
        finally:
            matrix.close()


if __name__ == "__main__":
    main()
