"""Starts what waits: claims jobs while there are devices for them, and hands each to its launcher."""

from __future__ import annotations

from pathlib import Path

from app.jobs.devices import host, local_devices
from app.jobs.job import Job, JobError
from app.jobs.launchers import launcher
from app.jobs.queue import LOCAL, Queue


def dispatch(queue: Queue, home: Path, assets: Path) -> list[Job]:
    """The jobs that were started. A job that its launcher refuses fails with the reason."""
    started = []
    while (job := queue.claim(host(), local_devices()) or queue.claim_remote(host(), LOCAL)) is not None:
        try:
            handle = launcher(job.launcher).submit(job, home, assets)
            if handle:
                queue.move(job.id, ["starting", "running", "stopping"], handle=handle)
            started.append(job)
        except (JobError, OSError) as error:
            queue.finish(job.id, job.attempt, "failed", str(error))
    return started
