"""The process that owns one attempt of one job: its device, its process tree, its log, its end.

    python -m app.jobs.runner <job> <attempt> --home HOME --assets ASSETS

Started by a launcher in a session of its own, so that it outlives the app; starts the next job of the queue when it
is done, so that the queue goes on without the app. WAVALIGN_DATABASE names the database, as for the app.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from app.jobs import causes, processes
from app.jobs.devices import DeviceBusy, DeviceLock, visible
from app.jobs.dispatch import dispatch
from app.jobs.early_stopping import watchful
from app.jobs.job import GENTLY, Job, JobError
from app.jobs.queue import Queue
from app.jobs.spare import Spare
from app.jobs.supervise import Asked, Attempt, Graces, Outcome, supervise
from app.store import open_store
from wavalign.launch.commands import train_command

_BEAT_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_DEVICE_SECONDS = 30.0
_TELL_SECONDS = (0.0, 1.0, 5.0, 20.0)


class Runner:
    def __init__(self, queue: Queue, job: Job, home: Path, assets: Path) -> None:
        self.queue, self.job, self.home, self.assets = queue, job, home, assets
        self.signalled: str | None = None
        self._beaten = self._looked = float("-inf")
        self._loaded = False
        self._asked: Asked | None = None
        self._watched = watchful(job.folder, job.settings)

    def run(self) -> Outcome:
        job = self.job
        if job.asked:
            return Outcome("stopped", "Stopped before it started.", 0)
        devices = self.queue.held_by(job.id)
        gpus = visible(devices)
        attempt = Attempt(
            folder=job.folder,
            number=job.attempt,
            tag=job.id,
            command=job.settings.get("command") or train_command(job.folder, self.assets, self.home, job.processes),
            minutes=job.minutes,
            environment={processes.HOME: str(self.home)} | ({} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}),
            graces=Graces(**job.settings.get("graces", {})),
        )
        with ExitStack() as locks:
            for device in devices:
                self._take(locks, device)
            return supervise(attempt, self._wanted, self._beat)

    def _take(self, locks: ExitStack, device: str) -> None:
        """The lock says that no runner uses the device; the tags, that nothing is left of one that was killed."""
        deadline = time.monotonic() + _DEVICE_SECONDS
        while True:
            try:
                locks.enter_context(DeviceLock(self.home, device))
                break
            except DeviceBusy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        active = {each.id for each in self.queue.jobs(("starting", "running", "stopping"))}
        for orphan in set(processes.jobs_of(self.home).values()) - active:
            if left := processes.end(orphan, 30.0):
                raise DeviceBusy(f"{device} is still held by process {left[0]} of an earlier job, which does not end.")

    def _wanted(self) -> Asked | None:
        if self.signalled:
            return Asked(GENTLY, self.signalled)
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            try:
                row = self.queue.get(self.job.id)
                if row.asked:
                    self._asked = Asked(row.asked, "on request")
            except (SQLAlchemyError, JobError):
                pass  # the database is away for a moment; the folder's control.json works all the same
            self._asked = self._asked or self._watched()
        return self._asked

    def _beat(self, loaded: bool) -> None:
        now = time.monotonic()
        if now - self._beaten < _BEAT_SECONDS and loaded == self._loaded:
            return
        try:
            if loaded and not self._loaded:
                self.queue.move(self.job.id, ["starting"], "running")
            self.queue.move(self.job.id, ["starting", "running", "stopping"], heartbeat=self.queue.clock())
        except SQLAlchemyError:
            pass
        self._beaten, self._loaded = now, loaded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.jobs.runner", description=__doc__.split("\n")[0])
    parser.add_argument("job")
    parser.add_argument("attempt", type=int)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--assets", type=Path, required=True)
    options = parser.parse_args(arguments)
    store = open_store(options.home, os.environ.get("WAVALIGN_DATABASE") or None)
    queue = Queue(store, spare=Spare(options.home))
    if not queue.registered(options.job, options.attempt, os.getpid(), processes.birth(os.getpid())):
        print("This attempt has a runner already, or is not wanted any more.")
        return 0
    runner = Runner(queue, queue.get(options.job), options.home, options.assets)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: setattr(runner, "signalled", f"its runner got {signal.Signals(got).name}"))
    try:
        ended = runner.run()
    except DeviceBusy as error:
        ended = Outcome("failed", str(error), 0)
    except OSError as error:
        ended = Outcome("failed", causes.plainly(f"{error}"), 0)
    except Exception as error:  # the outermost boundary: the job gets a reason, the log the traceback
        traceback.print_exc()
        ended = Outcome("crashed", f"The job's runner failed: {type(error).__name__}: {error}", 0)
    _tell(queue, runner.job, ended)
    if runner.signalled is None:  # a machine that shuts down starts nothing more
        dispatch(queue, options.home, options.assets)
    store.close()
    return 0


def _tell(queue: Queue, job: Job, ended: Outcome) -> None:
    """The row, once the devices are free. Where the disk is full it may fail: whoever reconciles then tells it."""
    for pause in _TELL_SECONDS:
        time.sleep(pause)
        try:
            queue.finish(job.id, job.attempt, ended.state, ended.reason)
            return
        except SQLAlchemyError as error:
            print(f"The end could not be noted: {error}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
