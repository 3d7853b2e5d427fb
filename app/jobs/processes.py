"""Finding and ending the processes of a job by the tag in their environment.

A process group is not enough: torchrun starts its workers in sessions of their own, and they outlive it. What a
process is given in its environment it keeps, and so do its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

TAG = "WAVALIGN_JOB"
"""Names the job in the environment of the trainer and of everything it starts; its runner does not carry it."""
HOME = "WAVALIGN_JOB_HOME"
"""Names, beside the tag, the home whose store knows the job."""


def tagged(job: str) -> list[psutil.Process]:
    """The living processes of a job. Those of other users cannot be seen."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TAG) == job and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.pid != os.getpid()]


def jobs_of(home: Path) -> dict[int, str]:
    """Every tagged process of this home: its id -> the job's id. Another home's jobs are none of our business."""
    found = {}
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            job = environment.get(TAG)
            if job and environment.get(HOME) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = job
        except (psutil.Error, OSError):
            continue
    found.pop(os.getpid(), None)
    return found


def is_alive(pid: int | None, born: float | None) -> bool:
    """Whether this very process lives: ids are used again, so its birth must fit, too (seconds since 1970)."""
    if pid is None or born is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - born) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def alive(pid: int) -> bool:
    """Whether a process of this id lives; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def birth(pid: int) -> float:
    """When a process was started, in seconds since 1970."""
    return psutil.Process(pid).create_time()


def end(job: str, grace: float, kill_grace: float = 10.0, reap: Callable[[], object] = lambda: None) -> list[int]:
    """Asks every process of the job to terminate, kills what is left after ``grace`` seconds, and makes sure.

    ``reap`` is called again and again: whoever started a process must collect it. Returns the ids of those that even
    SIGKILL did not end (in an uninterruptible wait); empty is what is hoped for.
    """
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, kill_grace)):
        deadline = time.monotonic() + patience
        asked: set[int] = set()
        while left := tagged(job):
            for process in left:
                if process.pid not in asked:
                    asked.add(process.pid)
                    _signal(process, number)
            reap()
            if time.monotonic() >= deadline:
                break
            time.sleep(0.05)
    return [process.pid for process in tagged(job)]


def dies_with_parent() -> Callable[[], None] | None:
    """For ``Popen(preexec_fn=...)``: the child is asked to terminate when its parent is gone. Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_death_signal = 1  # PR_SET_PDEATHSIG
    return lambda: prctl(set_death_signal, signal.SIGTERM)


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.Error):  # it ended meanwhile
        process.send_signal(number)
