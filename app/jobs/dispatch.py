"""Starts what waits: claims jobs while there are devices for them, and hands each to its launcher."""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from app import lending
from app.jobs import causes, processes
from app.jobs.devices import host, local_devices
from app.jobs.job import ACTIVE, AT_ONCE, Job, JobError
from app.jobs.launchers import ZERO_GPU, launcher
from app.jobs.queue import LOCAL, Queue


def dispatch(queue: Queue, home: Path, assets: Path) -> list[Job]:
    """The jobs that were started. A job that its launcher refuses fails with the reason."""
    started = []
    # A GPU that is lent by the call is lent to the app's process: a runner that starts the next job has none.
    without = () if lending.here() else (ZERO_GPU,)
    while (job := queue.claim(host(), local_devices()) or queue.claim_remote(host(), LOCAL, without)) is not None:
        try:
            chosen = launcher(job.launcher)
            if job.launcher != LOCAL:  # handing it over can take minutes: whoever reconciles sees who is at it
                queue.registered(job.id, job.attempt, os.getpid(), processes.birth(os.getpid()))
            handle = chosen.submit(job, home, assets)
            wanted = queue.move(job.id, ACTIVE, handle=handle)
            if job.launcher != LOCAL:  # what was asked for, or given up, meanwhile
                now = replace(queue.get(job.id), handle=handle)
                if now.asked or not wanted:
                    chosen.stop(now, now.asked if wanted else AT_ONCE)
            started.append(job)
        except (JobError, OSError) as error:
            queue.finish(job.id, job.attempt, "failed", causes.plainly(str(error)))
        except Exception as error:  # whatever a launcher's library raises: the job gets a reason, the log the traceback
            traceback.print_exception(error, file=sys.stderr)
            reason = f"The launcher {job.launcher} failed: {type(error).__name__}: {causes.first_line(error)}"
            queue.finish(job.id, job.attempt, "failed", reason)
    return started
