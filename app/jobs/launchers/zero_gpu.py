"""On a GPU that is lent for a call at a time (ZeroGPU): training in slices, each saved exactly, until all is done.

The slices of a run are given by a thread of the app, one run at a time. When the app is started anew, the run goes on
from the last save, in the same attempt.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import lending
from app.borrowing import BorrowError, Gpu
from app.jobs import causes, processes
from app.jobs.early_stopping import watchful
from app.jobs.job import GENTLY, Job, JobError
from app.jobs.launchers.protocol import Polled
from app.jobs.supervise import (
    OUTPUT,
    Asked,
    ask_in_folder,
    asked_in_folder,
    attempt_folder,
    last_step,
    outcome,
    read_result,
)
from wavalign.models.protocol import CheckpointError, GenerationError, SamplingError
from wavalign.training.journal import CONTROL, RESULT
from wavalign.training.slices import ORPHANED, OVER, Slice

PAUSES = (5.0, 30.0, 120.0, 600.0)
"""Seconds between tries while no GPU is lent; the last again and again."""
MOST_CUT = 5
"""So many slices in a row may be cut off before they saved anything."""
SHORTEST = 10
_SLICE = "wavalign.training.slices:train_slice"


class ZeroGpu:
    """What runs is known to the app's process alone; the handle says which process that was."""

    def submit(self, job: Job, home: Path, assets: Path) -> Mapping[str, Any]:
        gpu = lending.here()
        if gpu is None:
            raise JobError("This host lends no GPU by the call; choose another launcher.")
        seconds = int(job.settings.get("slice_seconds") or gpu.slice_seconds)
        _begin(Slices(job, home, assets, seconds, gpu))
        return {"pid": os.getpid(), "born": processes.birth(os.getpid()), "home": str(home), "assets": str(assets)}

    def poll(self, job: Job) -> Polled:
        known = _known.get((job.id, job.attempt))
        if known is None:
            if _lives(job.handle) or lending.here() is None:
                return Polled(None)  # another process of the app gives the slices
            self.submit(job, Path(job.handle["home"]), Path(job.handle["assets"]))
            return Polled("starting", "Goes on from the last save after a restart.")
        return known.now

    def logs(self, job: Job, size: int) -> str:
        return causes.tail(attempt_folder(job.folder, job.attempt) / OUTPUT, size)

    def stop(self, job: Job, level: int) -> None:
        """A slice ends after its step; one that has not begun does not begin."""
        ask_in_folder(job.folder, level, job.attempt)
        if known := _known.get((job.id, job.attempt)):
            known.asked = Asked(level, "on request")
            known.wake.set()

    def fetch(self, job: Job) -> None:
        """It is here."""


@dataclass
class Slices:
    """Gives one attempt of a run its slices. ``now`` is how it stands."""

    job: Job
    home: Path
    assets: Path
    seconds: int
    gpu: Gpu
    now: Polled = field(default_factory=lambda: Polled("starting", "Waits for its first slice."))
    asked: Asked | None = None
    wake: threading.Event = field(default_factory=threading.Event)
    pausing: bool = False
    """Whether the app ends: the run goes on with the next one."""
    spent: float = 0.0
    cut: int = 0

    def run(self) -> None:
        """Until the run is over, or the app is."""
        try:
            self._run()
        except Exception as error:  # the boundary of the thread: the row gets a reason
            self.now = Polled("failed", causes.plainly(f"{type(error).__name__}: {error}"))

    def _run(self) -> None:
        job = self.job
        if asked_in_folder(job.folder, job.attempt) is None:
            (job.folder / CONTROL).unlink(missing_ok=True)
        (job.folder / RESULT).unlink(missing_ok=True)
        wanted, refused = watchful(job.folder, job.settings), 0
        while not self.pausing:
            self.asked = self.asked or wanted() or self._used_up()
            if self.asked is not None:
                return self._ended(self.asked)
            before = last_step(job.folder)
            try:
                made = self._slice()
            except BorrowError as error:
                refused += 1
                if not self._may_go_on(error, before):
                    return
                self.wake.wait(PAUSES[min(refused, len(PAUSES)) - 1] if not error.aborted else 0.0)
                continue
            except (CheckpointError, GenerationError, SamplingError) as error:
                self.now = Polled("failed", str(error))
                return
            refused = self.cut = 0
            self.spent += made.seconds
            if made.status == "stopped" and (made.reason in (OVER, ORPHANED) or self.pausing):
                self.now = Polled("running", f"A slice of {made.seconds:.0f} s ended at step {made.step}, saved.")
                continue
            return self._ended(self.asked)

    def _slice(self) -> Slice:
        with _one_at_a_time:
            if self.pausing or self.asked is not None:
                return Slice("stopped", OVER, last_step(self.job.folder), 0.0)
            job, seconds = self.job, self.seconds
            if job.minutes is not None:
                seconds = min(seconds, max(SHORTEST, round(60 * job.minutes - self.spent)))
            self.now = Polled("running", f"In a slice of {seconds} seconds.")
            return self.gpu.work(_SLICE, (job.folder, self.assets, self.home, job.attempt, float(seconds)), seconds)

    def _may_go_on(self, error: BorrowError, before: int) -> bool:
        if error.aborted and last_step(self.job.folder) <= before:
            self.cut += 1
            if self.cut >= MOST_CUT:
                self.now = Polled(
                    "failed",
                    f"{MOST_CUT} slices of {self.seconds} seconds were cut off before one step was saved: raise "
                    "WAVALIGN_SLICE_SECONDS, or train less at a time.",
                )
                return False
        self.now = Polled("running", f"{error} It is tried again; what was trained is saved.")
        return True

    def _used_up(self) -> Asked | None:
        minutes = self.job.minutes
        if minutes is None or self.spent < 60 * minutes:
            return None
        return Asked(GENTLY, f"its budget of {minutes:g} minutes is used", "completed")

    def _ended(self, asked: Asked | None) -> None:
        job = self.job
        (job.folder / CONTROL).unlink(missing_ok=True)
        if asked is not None and read_result(job.folder, job.attempt) is None:
            self.now = Polled(asked.state, f"Stopped before its first slice: {asked.reason}.")
            return
        ended = outcome(job.folder, job.attempt, asked, None)
        self.now = Polled(ended.state, ended.reason)


def pause(patience: float) -> int:
    """Ends the slices under way with a save, for the next start of the app; returns how many did not end in time."""
    working = [each for each in _known.values() if each.now.state in ("starting", "running")]
    for each in working:
        each.pausing = True
        each.wake.set()
        if each.now.state == "running":
            ask_in_folder(each.job.folder, GENTLY)  # of no attempt: a later start does not heed it
    deadline = time.monotonic() + patience
    for each in working:
        thread = _threads.get(each.job.id)
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
    return sum(thread.is_alive() for thread in _threads.values())


_known: dict[tuple[str, int], Slices] = {}
_threads: dict[str, threading.Thread] = {}
_one_at_a_time = threading.Lock()


def _begin(slices: Slices) -> None:
    _known[slices.job.id, slices.job.attempt] = slices
    thread = threading.Thread(target=slices.run, name=f"slices of {slices.job.name}", daemon=True)
    _threads[slices.job.id] = thread
    thread.start()


def _lives(handle: Mapping[str, Any]) -> bool:
    return handle["pid"] != os.getpid() and processes.is_alive(handle["pid"], handle["born"])
