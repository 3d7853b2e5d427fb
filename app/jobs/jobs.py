"""What people do with jobs: start, stop, resume, delete, reorder, note. Pages and scripts talk to this only."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from app.jobs import causes
from app.jobs.adopt import adopt
from app.jobs.dispatch import dispatch
from app.jobs.job import ACTIVE, AT_ONCE, FINAL, GENTLY, Job, JobError
from app.jobs.launchers import LAUNCHERS, launcher
from app.jobs.queue import LOCAL, Queue
from app.jobs.reconcile import reconcile
from app.jobs.spare import Spare
from app.store import Store
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import save_config
from wavalign.training.journal import CHECKPOINTS, CONFIG

RUNS = "runs"
SPECIFICATION = "job.json"
_WATCH_SECONDS = 3.0
_LONGEST_NOTE = 4000
_PRIORITIES = range(-100, 101)


@dataclass(frozen=True)
class Contents:
    """What deleting a run takes away. ``kept`` is the promoted checkpoint that stays."""

    megabytes: float
    checkpoints: int
    recordings: int
    adapter: bool
    kept: str | None

    def words(self) -> str:
        gone = [f"{self.checkpoints} checkpoint{'' if self.checkpoints == 1 else 's'}", f"{self.recordings} recordings"]
        gone += ["the trained adapter"] if self.adapter else []
        stays = f" The promoted checkpoint {self.kept} is a copy, and stays." if self.kept else ""
        return f"Metrics, log, {', '.join(gone)}: {self.megabytes:.1f} MB.{stays}"


class Jobs:
    """``home`` holds ``runs/``; ``told`` gets what the watching thread cannot tell anybody else."""

    def __init__(self, store: Store, home: Path, assets: Path, told: Callable[[str], None] = print) -> None:
        self.queue = Queue(store, spare=Spare(home))
        self.home, self.assets = home, assets
        self.trouble: str | None = None
        """What keeps jobs from being looked after just now, as a sentence for the page."""
        self._told = told
        self._watching: threading.Thread | None = None
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._adopted = float("-inf")

    def start(
        self,
        config: TrainConfig,
        *,
        launcher: str = LOCAL,
        processes: int = 1,
        priority: int = 0,
        minutes: float | None = None,
        settings: Mapping[str, Any] | None = None,
        parent: str | None = None,
        notes: str = "",
    ) -> Job:
        """Queues a new run of ``config`` and, where a device is free, starts it.

        Raises:
            JobError: one sentence; then nothing was made.
        """
        if launcher not in LAUNCHERS:
            raise JobError(f'There is no launcher "{launcher}"; the launchers are: {", ".join(LAUNCHERS)}.')
        if not 1 <= processes <= 1024:
            raise JobError(f"Processes must be from 1 to 1024, got {processes}.")
        if minutes is not None and not 0 < minutes < 1e6:
            raise JobError(f"The budget must be above 0 minutes, got {minutes}.")
        plain = {**(settings or {}), **({} if minutes is None else {"minutes": minutes})}
        folder = self._new_folder(config.name)
        try:
            save_config(config, folder / CONFIG)
            about = {"launcher": launcher, "processes": processes, "priority": _priority(priority), "settings": plain}
            (folder / SPECIFICATION).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
            job = self.queue.add(folder.name, folder, parent=parent, notes=notes[:_LONGEST_NOTE], **about)
        except (OSError, SQLAlchemyError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise JobError(f"The run could not be noted: {_first_line(error)}") from error
        self.look()
        return job

    def stop(self, id: str, level: int = GENTLY) -> str:
        """Cancels a job that waits; asks one that runs to save and end. Says what was done.

        Raises:
            JobError: when it is over already.
        """
        if self.queue.move(id, ["queued"], "stopped", reason="Cancelled before it started.", ended=time.time()):
            return "Cancelled: it will not start."
        job = self.queue.get(id)
        if not self.queue.move(id, ACTIVE, "stopping", asked=max(level, job.asked)):
            raise JobError(f"{job.name} is over already ({self.queue.get(id).state}).")
        job = self.queue.get(id)
        if job.launcher != LOCAL and job.handle:  # without a handle it is just being handed over, and is told then
            launcher(job.launcher).stop(job, level)
        return "Ending it at once." if level >= AT_ONCE else "Asked to save and stop after this step."

    def resume(self, id: str) -> Job:
        """Queues a run again; it goes on from its last complete checkpoint, exactly.

        Raises:
            JobError: when it is under way, or all of its steps are done.
        """
        job = self.queue.get(id)
        if not (job.folder / CONFIG).is_file():
            raise JobError(f"The folder of {job.name} is gone; it cannot go on.")
        if job.state == "completed" and job.minutes is None:
            raise JobError(f"All steps of {job.name} are done. Clone it with more steps.")
        # In line as of now: those who wait already come first.
        if not self.queue.move(id, FINAL, "queued", reason=None, at=time.time(), ended=None):
            raise JobError(f"{job.name} is {job.state} already.")
        self.look()
        return self.queue.get(id)

    def contents(self, id: str) -> Contents:
        """What ``delete`` would take away."""
        job = self.queue.get(id)
        files = [path for path in job.folder.rglob("*") if path.is_file()]
        return Contents(
            megabytes=sum(path.stat().st_size for path in files) / 1e6,
            checkpoints=len(list((job.folder / CHECKPOINTS).glob("step-*"))),
            recordings=sum(path.suffix == ".wav" for path in files),
            adapter=(job.folder / "adapter").is_dir(),
            kept=job.promoted,
        )

    def delete(self, id: str) -> None:
        """Removes a run that is over, with its folder.

        Raises:
            JobError: when it is under way or waits.
        """
        job = self.queue.get(id)
        runs = (self.home / RUNS).resolve()
        if job.folder.resolve().parent != runs:
            raise JobError(f"{job.folder} is not in {runs}; it is not deleted from here.")
        if not self.queue.remove(id):
            raise JobError(f"{job.name} is {job.state}: stop it first.")
        doomed = job.folder.with_name(f".deleted-{uuid.uuid4().hex[:8]}")
        try:
            if job.folder.is_dir():
                job.folder.rename(doomed)
                shutil.rmtree(doomed)
        except OSError as error:
            raise JobError(f"{job.name} is off the list, but {doomed} is left: {error.strerror}.") from error

    def prefer(self, id: str, priority: int) -> None:
        """Raises:
        JobError: when it does not wait any more.
        """
        if not self.queue.move(id, ["queued"], priority=_priority(priority)):
            raise JobError("Only a job that waits has a place in the line.")

    def note(self, id: str, text: str) -> None:
        self.queue.get(id)
        self.queue.move(id, (*ACTIVE, *FINAL, "queued"), notes=text[:_LONGEST_NOTE])

    def places(self) -> dict[str, int]:
        """The place in line of each job that waits, from 1."""
        return {job.id: place for place, job in enumerate(self.queue.line(), start=1)}

    def look(self) -> None:
        """Reconciles and starts what can start: now, in the watching thread where there is one."""
        if self._watching is not None and self._watching.is_alive():
            self._wake.set()
        else:
            self._once()

    def watch(self) -> None:
        """Looks at once and then every few seconds, in a thread of its own."""
        if self._watching is None:
            self._watching = threading.Thread(target=self._watch, name="jobs", daemon=True)
            self._watching.start()

    def close(self) -> None:
        """Ends the watching; jobs go on."""
        self._closed.set()
        self._wake.set()

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                self._once()
                self.trouble = None
            except Exception as error:  # the outermost boundary of the thread: it must go on
                trouble = f"Jobs cannot be looked after just now. {causes.plainly(causes.first_line(error))}"
                if trouble != self.trouble:
                    self._told("".join(traceback.format_exception(error)))
                self.trouble = trouble
            self._wake.wait(_WATCH_SECONDS)
            self._wake.clear()

    def _once(self) -> None:
        self.queue.spare.keep()
        reconcile(self.queue, self.home)
        dispatch(self.queue, self.home, self.assets)
        if time.monotonic() - self._adopted > 10 * _WATCH_SECONDS:
            self._adopted = time.monotonic()
            adopt(self.queue, self.home / RUNS)

    def _new_folder(self, name: str) -> Path:
        runs = self.home / RUNS
        try:
            runs.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                folder = runs / f"{name}-{number:03d}"
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                    return folder
                number += 1
        except OSError as error:
            raise JobError(f"The run's folder cannot be made in {runs}: {error.strerror}.") from error


def _priority(priority: int) -> int:
    if priority not in _PRIORITIES:
        raise JobError(f"Priority must be from {_PRIORITIES[0]} to {_PRIORITIES[-1]}, got {priority}.")
    return priority


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
