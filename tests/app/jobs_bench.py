"""A place to run real jobs with the toy trainer: home, store, queue, and waiting for what should happen."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.jobs.job import FINAL, Job
from app.jobs.jobs import Jobs
from app.store import open_store
from tests.app.toy_trainer import GO_ON, next_weights
from wavalign.training.config import TrainConfig
from wavalign.training.journal import read_lines

REPOSITORY = Path(__file__).resolve().parents[2]
GRACES = {"ask": 120.0, "term": 30.0, "kill": 10.0}


class JobsBench:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = open_store(home)
        self.jobs = Jobs(self.store, home, REPOSITORY / "assets")

    def start(self, *arguments: str, name: str = "toy", graces: dict[str, float] | None = None, **how: Any) -> Job:
        """A job whose trainer is the toy with these arguments."""
        job_folder = self.home / "runs" / f"{name}-{len(list((self.home / 'runs').glob(f'{name}-*'))) + 1:03d}"
        command = [sys.executable, "-m", "tests.app.toy_trainer", str(job_folder), *arguments]
        settings = {"command": command, "graces": graces or GRACES, **how.pop("settings", {})}
        return self.jobs.start(TrainConfig(name=name), settings=settings, **how)

    def get(self, job: Job) -> Job:
        return self.jobs.queue.get(job.id)

    def until(self, condition: Callable[[], Any], seconds: float = 400.0, pause: float = 0.02) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(pause)
        raise AssertionError(f"It did not happen in {seconds} s: {self.describe()}")

    def at(self, job: Job, step: int) -> None:
        """Waits until the job has taken this step."""
        self.until(lambda: len(read_lines(job.folder / "metrics.jsonl")) >= step)

    def let_go(self, job: Job) -> None:
        """A toy that was started with --hold goes on, now and in later attempts."""
        (job.folder / GO_ON).touch()

    def ended(self, job: Job, seconds: float = 400.0) -> Job:
        """Waits for the end, looking as the app's watching thread does."""

        def over() -> bool:
            self.jobs.look()
            return self.get(job).state in FINAL

        self.until(over, seconds, pause=0.1)
        return self.get(job)

    def trainer(self, job: Job) -> int:
        from app.jobs.processes import tagged

        return self.until(lambda: [process.pid for process in tagged(job.id)])[0]

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        os.kill(pid, number)

    def describe(self) -> str:
        lines = []
        for job in self.jobs.queue.jobs():
            lines.append(f"{job.name} {job.state} {job.reason}")
            for log in sorted(job.folder.glob("attempts/*/*.log")):
                lines.append(f"{log}: {log.read_text(errors='replace')[-1500:]}")
        return "\n".join(lines)

    def close(self) -> None:
        from app.jobs.processes import end

        for job in self.jobs.queue.jobs():
            if job.launcher == "local" and job.runner is not None and job.state not in FINAL:
                with contextlib.suppress(OSError):
                    os.kill(job.runner, signal.SIGKILL)
            end(job.id, 0.0)
        self.jobs.close()
        self.store.close()


def straight(steps: int) -> str:
    """The toy's weights after so many steps without a stop."""
    weights = ""
    for step in range(1, steps + 1):
        weights = next_weights(weights, step)
    return weights
