"""Training jobs and the devices that they hold. A job's folder is the truth about its run; rows index it.

Unlike the events of battles, these rows change: ``state`` moves only by compare-and-set (``app.jobs.queue``).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.schema import Base, Words

STATES = ("queued", "starting", "running", "stopping", "completed", "stopped", "failed", "crashed")


class JobRow(Base):
    """One run and all of its attempts. ``at``, ``started``, ``ended``, ``heartbeat`` are seconds since 1970."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    at: Mapped[float]
    name: Mapped[str] = mapped_column(Words)
    folder: Mapped[str] = mapped_column(Words, unique=True)
    launcher: Mapped[str] = mapped_column(String(16))
    processes: Mapped[int]
    priority: Mapped[int]
    """The highest waits least; equals in the order they came."""
    settings: Mapped[dict[str, Any]]
    """The rest of the job's specification: minutes, whether an alarm stops it, what the launcher needs."""
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Words)
    asked: Mapped[int]
    """0: nobody asked to stop; 1: save, then stop; 2: stop at once."""
    attempt: Mapped[int]
    host: Mapped[str | None] = mapped_column(Words)
    runner: Mapped[int | None]
    """The runner's process id; with ``born`` it names one process, ids being used again."""
    born: Mapped[float | None]
    heartbeat: Mapped[float | None]
    handle: Mapped[dict[str, Any] | None]
    """What a remote launcher finds the job by."""
    started: Mapped[float | None]
    ended: Mapped[float | None]
    notes: Mapped[str] = mapped_column(Words)
    parent: Mapped[str | None] = mapped_column(String(40))
    """The job that this one was cloned from."""
    promoted: Mapped[str | None] = mapped_column(Words)
    __table_args__ = (
        CheckConstraint(f"state IN ({', '.join(repr(state) for state in STATES)})", name="job_state"),
        CheckConstraint("asked BETWEEN 0 AND 2", name="job_asked"),
        Index("jobs_in_line", "state", "priority", "at"),
    )


class DeviceHold(Base):
    """One job on one device: the primary key is what keeps a second one off."""

    __tablename__ = "device_holds"
    device: Mapped[str] = mapped_column(String(200), primary_key=True)
    job: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[float]
