"""Brings rows and reality together: jobs whose runner lives are left alone, dead ones get their end and a reason.

Done when the app starts and every few seconds after; a file lock keeps several apps of one home from doing it at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.jobs import causes, processes
from app.jobs.devices import host
from app.jobs.job import ACTIVE, GENTLY, Job, JobError
from app.jobs.launchers import launcher
from app.jobs.launchers.local import RUNNER_LOG, reap
from app.jobs.queue import LOCAL, Queue
from app.jobs.supervise import Asked, Graces, attempt_folder, outcome, read_result

STARTING_SECONDS = 60.0
"""A job that was claimed so long ago and handed to nobody lost whoever claimed it."""
LOST_SECONDS = 180.0
"""A job of another machine whose heart has not beaten for this long is lost."""


def reconcile(queue: Queue, home: Path) -> None:
    """One look at every job that should be under way."""
    with _alone(home) as mine:
        if not mine:
            return
        reap()
        for job in queue.jobs(ACTIVE):
            if job.launcher != LOCAL:
                _remote(queue, job)
            elif job.host != host():
                _elsewhere(queue, job)
            elif job.runner is None:
                _unregistered(queue, job)
            elif not processes.is_alive(job.runner, job.born):
                _dead(queue, job)


def _unregistered(queue: Queue, job: Job) -> None:
    """Claimed, but no runner has said that it is there: it loads, or it failed to, or there never was one."""
    if job.launcher == LOCAL and job.handle:
        if processes.is_alive(job.handle["pid"], job.handle["born"]):
            return  # on a busy machine this takes a while
        job = queue.get(job.id)
        if job.runner is None:
            log = causes.tail(attempt_folder(job.folder, job.attempt) / RUNNER_LOG)
            said = causes.last_exception(log) or "it was killed, or the machine was restarted"
            state = "stopped" if job.asked else "crashed"
            queue.finish(job.id, job.attempt, state, causes.plainly(f"The job's runner did not start: {said}"))
        return
    if queue.clock() - (job.started or 0.0) < STARTING_SECONDS:
        return
    if job.asked:
        queue.finish(job.id, job.attempt, "stopped", "Stopped before it started.")
    else:
        queue.finish(job.id, job.attempt, "queued", "")


def _dead(queue: Queue, job: Job) -> None:
    """The runner is gone. The trainer, asked by its parent's death, saves and ends; what is left is ended here."""
    graces = Graces(**job.settings.get("graces", {}))
    left = processes.end(job.id, graces.ask, graces.kill)
    fresh = queue.get(job.id)
    if fresh.state not in ACTIVE or fresh.attempt != job.attempt:
        return  # the runner's last act came just before its end
    asked = Asked(GENTLY, "on request") if fresh.asked else None
    result = read_result(job.folder, job.attempt)
    ended = outcome(job.folder, job.attempt, asked, None, left=left)
    state, reason = ended.state, ended.reason
    if asked is None and state in ("stopped", "crashed"):
        state = "crashed"
        saved = f" The trainer saved step {ended.step} and ended." if result and result["status"] == "stopped" else ""
        reason = f"The job's runner was killed.{saved or ' ' + reason} Resume goes on from the last checkpoint."
    queue.finish(job.id, job.attempt, state, reason)


def _elsewhere(queue: Queue, job: Job) -> None:
    if queue.clock() - (job.heartbeat or job.started or 0.0) > LOST_SECONDS:
        reason = f"The machine it ran on ({job.host}) is gone. Resume goes on from the last checkpoint."
        queue.finish(job.id, job.attempt, "crashed", reason)


def _remote(queue: Queue, job: Job) -> None:
    """Asks the job's launcher; its folder is brought here as it grows."""
    if not job.handle:
        if job.host != host():
            _elsewhere(queue, job)
        elif not processes.is_alive(job.runner, job.born):  # else it is just being handed over
            _unregistered(queue, job)
        return
    try:
        remote = launcher(job.launcher)
        polled = remote.poll(job)
        if polled.state is not None:
            remote.fetch(job)
    except JobError as error:
        queue.move(job.id, ACTIVE, reason=str(error))
        return
    if polled.state in ("completed", "stopped", "failed", "crashed"):
        queue.finish(job.id, job.attempt, polled.state, polled.reason)
    elif polled.state is not None:
        queue.move(job.id, ACTIVE, heartbeat=queue.clock(), reason=polled.reason or None)
        if polled.state == "running":
            queue.move(job.id, ["starting"], "running")


@contextmanager
def _alone(home: Path) -> Iterator[bool]:
    path = home / "jobs" / "reconcile.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    mine = False
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = True
        yield mine
    finally:
        if mine:  # said, not left to the closing: a process that was forked meanwhile has the file open, too
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
