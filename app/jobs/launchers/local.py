"""On this machine: a detached runner for each job."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.jobs import causes, processes
from app.jobs.job import Job
from app.jobs.launchers.protocol import Polled
from app.jobs.supervise import OUTPUT, attempt_folder

_REPOSITORY = Path(__file__).resolve().parents[3]
RUNNER_LOG = "runner.log"


class Local:
    def submit(self, job: Job, home: Path, assets: Path) -> Mapping[str, Any]:
        place = attempt_folder(job.folder, job.attempt)
        place.mkdir(parents=True, exist_ok=True)
        # The tag of a job that starts the next one must not be the next one's.
        environment = {name: value for name, value in os.environ.items() if name != processes.TAG}
        environment["PYTHONPATH"] = os.pathsep.join([str(_REPOSITORY), environment.get("PYTHONPATH", "")]).rstrip(":")
        with (place / RUNNER_LOG).open("ab") as log:
            child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "app.jobs.runner", job.id, str(job.attempt)),
                    *("--home", str(home), "--assets", str(assets)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                cwd=_REPOSITORY,
            )
        _children.append(child)
        return {"pid": child.pid, "born": processes.birth(child.pid)}

    def poll(self, job: Job) -> Polled:
        """The runner itself says how the job is, in its row; only its death must be noticed from outside."""
        reap()
        return Polled(job.state if processes.is_alive(job.runner, job.born) else None)

    def logs(self, job: Job, size: int) -> str:
        return causes.tail(attempt_folder(job.folder, job.attempt) / OUTPUT, size)

    def stop(self, job: Job, level: int) -> None:
        """The runner reads the wish in the job's row."""

    def fetch(self, job: Job) -> None:
        """It is here."""


_children: list[subprocess.Popen] = []


def reap() -> None:
    """Collects runners that have ended, so that they are not left as zombies of the app."""
    _children[:] = [child for child in _children if child.poll() is None]
