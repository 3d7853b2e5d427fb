"""Where every process ends with the app (a Space, a container): jobs are saved before, and go on after the next start.

A job is noted before it is told to stop. One that was killed with the machine is found by its row: its runner is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from app.jobs import processes
from app.jobs.devices import host
from app.jobs.job import ACTIVE, FINAL, Job, JobError
from app.jobs.launchers import ZERO_GPU
from app.jobs.queue import LOCAL, Queue
from wavalign.training import checkpoints
from wavalign.training.journal import CHECKPOINTS

FILE = "continue.json"
MOST_TRIES = 3
"""So often a job goes on by itself from the same step: it may be what ends the machine."""
AGAIN = "It ended the machine {tries} times at step {step}, so it does not go on by itself. Resume tries once more."


def pause(queue: Queue, home: Path, patience: float) -> int:
    """Asks every job here to save and stop, to be continued; returns how many are still at it after ``patience`` s."""
    mine = [job for job in queue.jobs(ACTIVE) if job.launcher == LOCAL and job.host == host()]
    _note(home, {**_noted(home), **{job.id: _tries(home, job) for job in mine if not job.asked}})
    for job in mine:
        if job.runner is not None and processes.is_alive(job.runner, job.born):
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.runner, signal.SIGTERM)  # it has its trainer save; a runner that was told starts no other
    deadline = time.monotonic() + patience
    while (left := [job for job in mine if _is_at_it(job)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    if ZERO_GPU in {job.launcher for job in queue.jobs(ACTIVE)} and (module := sys.modules.get(_SLICES)):
        return len(left) + module.pause(max(0.0, deadline - time.monotonic()))
    return len(left)


def go_on(queue: Queue, home: Path) -> list[Job]:
    """Puts into the queue again what the last end of the machine interrupted; to be called before anything else looks.

    A job that was asked to stop by a person stays stopped.
    """
    noted = _noted(home)
    for job in queue.jobs(ACTIVE):
        ours = job.launcher == LOCAL and (job.host == host() or queue.store.is_sqlite)
        if not ours or processes.is_alive(job.runner, job.born):
            continue
        processes.end(job.id, 20.0)
        if job.asked:
            queue.finish(job.id, job.attempt, "stopped", "Stopped on request; the machine ended meanwhile.")
            continue
        noted.setdefault(job.id, _tries(home, job))
        queue.finish(job.id, job.attempt, "crashed", "The machine ended while it ran.")
    going = [each for id, told in noted.items() if (each := _again(queue, id, told)) is not None]
    _note(home, {})
    _keep_tries(home, {job.id: noted[job.id] for job in going})
    return going


def _again(queue: Queue, id: str, told: Mapping[str, int]) -> Job | None:
    with contextlib.suppress(JobError):
        job = queue.get(id)
        if job.state not in FINAL or job.state == "completed":
            return None
        if told["tries"] > MOST_TRIES:
            queue.move(id, FINAL, "crashed", reason=AGAIN.format(**told))
            return None
        if queue.move(id, FINAL, "queued", reason=None, ended=None):
            return job
    return None


def _tries(home: Path, job: Job) -> dict[str, int]:
    """How often it has gone on from its last save, this time included."""
    saved = checkpoints.latest(job.folder / CHECKPOINTS)
    step = saved.step if saved else 0
    before = _read(home, "tries").get(job.id, {"step": -1, "tries": 0})
    return {"step": step, "tries": before["tries"] + 1 if before["step"] == step else 1}


def _is_at_it(job: Job) -> bool:
    with contextlib.suppress(psutil.Error):
        return processes.is_alive(job.runner, job.born)
    return False


_SLICES = "app.jobs.launchers.zero_gpu"


def _noted(home: Path) -> dict[str, dict[str, int]]:
    return _read(home, "jobs")


def _note(home: Path, jobs: Mapping[str, Mapping[str, int]]) -> None:
    _write(home, {"jobs": jobs, "tries": _read(home, "tries")})


def _keep_tries(home: Path, tries: Mapping[str, Mapping[str, int]]) -> None:
    _write(home, {"jobs": _read(home, "jobs"), "tries": tries})


def _read(home: Path, part: str) -> dict[str, dict[str, int]]:
    try:
        found = json.loads((home / "jobs" / FILE).read_text(encoding="utf-8"))[part]
        return {id: {"step": int(each["step"]), "tries": int(each["tries"])} for id, each in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(home: Path, told: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    path = home / "jobs" / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(told), encoding="utf-8")
    draft.replace(path)
