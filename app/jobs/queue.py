"""The queue: jobs in the store, claimed by one transaction, moved from state to state by compare-and-set.

A job that is claimed holds its devices until it is finished; the primary key of the holds keeps others off, also
where several replicas of the app share one database.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError, OperationalError

from app.jobs.job import ACTIVE, FINAL, Job, JobError, State
from app.jobs.spare import Spare
from app.store import DeviceHold, JobRow, Store

LOCAL = "local"


class Queue:
    """``clock`` is wall time in seconds; ``spare`` is given up for an end that a full disk does not take."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time, spare: Spare | None = None) -> None:
        self.store = store
        self.clock = clock
        self.spare = spare

    def add(
        self,
        name: str,
        folder: Path,
        *,
        launcher: str = LOCAL,
        processes: int = 1,
        priority: int = 0,
        settings: Mapping[str, Any] | None = None,
        parent: str | None = None,
        state: State = "queued",
        **facts: Any,
    ) -> Job:
        """The row comes before any process: whatever happens next, the job is known."""
        values: dict[str, Any] = dict.fromkeys(
            ("reason", "host", "runner", "born", "heartbeat", "handle", "started", "ended", "promoted")
        )
        values |= {"asked": 0, "attempt": 0, "notes": "", **facts}
        row = JobRow(
            id=uuid.uuid4().hex,
            at=self.clock(),
            name=name,
            folder=str(folder),
            launcher=launcher,
            processes=processes,
            priority=priority,
            settings=dict(settings or {}),
            parent=parent,
            state=state,
            **values,
        )
        with self.store.writing() as session:
            session.add(row)
        return Job.of(row)

    def get(self, id: str) -> Job:
        """Raises:
        JobError: when there is no such job.
        """
        with self.store.reading() as session:
            row = session.get(JobRow, id)
        if row is None:
            raise JobError("That job is not there any more.")
        return Job.of(row)

    def jobs(self, states: Iterable[State] = ()) -> list[Job]:
        """The newest first."""
        wanted = select(JobRow).order_by(JobRow.at.desc(), JobRow.id)
        if states:
            wanted = wanted.where(JobRow.state.in_(list(states)))
        with self.store.reading() as session:
            return [Job.of(row) for row in session.scalars(wanted)]

    def move(self, id: str, before: Sequence[State], after: State | None = None, **changes: Any) -> bool:
        """Changes a job that is in one of the states ``before``; False when it is in another."""
        values = changes if after is None else {**changes, "state": after}
        with self.store.writing() as session:
            wanted = update(JobRow).where(JobRow.id == id, JobRow.state.in_(list(before))).values(**values)
            return session.execute(wanted).rowcount == 1

    def line(self) -> list[Job]:
        """The jobs that wait, next first."""
        with self.store.reading() as session:
            return [Job.of(row) for row in session.scalars(_in_line())]

    def claim(self, host: str, devices: Sequence[str]) -> Job | None:
        """The next local job, starting on as many of ``devices`` as it has processes (one, where they are CPUs).

        None when nothing waits, or when the first that waits needs more devices than are free: those behind it wait
        too, so that a large job is not overtaken for ever. A job that needs more than there are fails with a reason.
        """
        try:
            with self.store.writing() as session:
                row = session.scalar(_in_line().where(JobRow.launcher == LOCAL).limit(1).with_for_update())
                if row is None:
                    return None
                needed = 1 if all(is_cpu(device) for device in devices) else row.processes
                if needed > len(devices):
                    row.state, row.ended = "failed", self.clock()
                    row.reason = f"The job needs {needed} GPUs, and this machine has {len(devices)}."
                    return None
                held = set(session.scalars(select(DeviceHold.device).where(DeviceHold.device.in_(devices))))
                free = [device for device in devices if device not in held][:needed]
                if len(free) < needed:
                    return None
                for device in free:
                    session.add(DeviceHold(device=device, job=row.id, at=self.clock()))
                _begin(row, host, self.clock())
            return Job.of(row)
        except IntegrityError:  # another replica took the device in the same instant
            return None

    def claim_remote(self, host: str, local: str = LOCAL, without: Sequence[str] = ()) -> Job | None:
        """The next job of another launcher, but not of those in ``without``; it holds no device here."""
        with self.store.writing() as session:
            row = session.scalar(_in_line().where(JobRow.launcher.not_in([local, *without])).limit(1).with_for_update())
            if row is None:
                return None
            _begin(row, host, self.clock())
        return Job.of(row)

    def registered(self, id: str, attempt: int, runner: int, born: float) -> bool:
        """Names the one runner of an attempt; False when the attempt is not waiting for one any more."""
        with self.store.writing() as session:
            wanted = (
                update(JobRow)
                .where(JobRow.id == id, JobRow.attempt == attempt, JobRow.runner.is_(None))
                .where(JobRow.state.in_(["starting", "stopping"]))
                .values(runner=runner, born=born, heartbeat=self.clock())
            )
            return session.execute(wanted).rowcount == 1

    def held_by(self, id: str) -> list[str]:
        with self.store.reading() as session:
            return sorted(session.scalars(select(DeviceHold.device).where(DeviceHold.job == id)))

    def holds(self) -> dict[str, str]:
        """Device -> id of the job on it."""
        with self.store.reading() as session:
            return {hold.device: hold.job for hold in session.scalars(select(DeviceHold))}

    def finish(self, id: str, attempt: int, state: State, reason: str) -> bool:
        """The end of an attempt, in one transaction with the freeing of its devices."""
        if state not in (*FINAL, "queued"):
            raise ValueError(f"{state} is not an end.")
        try:
            return self._finish(id, attempt, state, reason)
        except OperationalError as error:
            if "full" not in str(error.orig) or self.spare is None or not self.spare.release():
                raise
            return self._finish(id, attempt, state, reason)

    def _finish(self, id: str, attempt: int, state: State, reason: str) -> bool:
        with self.store.writing() as session:
            wanted = (
                update(JobRow)
                .where(JobRow.id == id, JobRow.attempt == attempt, JobRow.state.in_(ACTIVE))
                .values(state=state, reason=reason or None, runner=None, born=None, asked=0)
                .values(ended=None if state == "queued" else self.clock())
            )
            ended = session.execute(wanted).rowcount == 1
            if ended:
                session.execute(delete(DeviceHold).where(DeviceHold.job == id))
            return ended

    def remove(self, id: str) -> bool:
        """Deletes the row of a job that is over; False when it is not."""
        with self.store.writing() as session:
            wanted = delete(JobRow).where(JobRow.id == id, JobRow.state.in_(FINAL))
            return session.execute(wanted).rowcount == 1


def is_cpu(device: str) -> bool:
    return device.endswith("/cpu")


def _in_line() -> Any:
    return select(JobRow).where(JobRow.state == "queued").order_by(JobRow.priority.desc(), JobRow.at, JobRow.id)


def _begin(row: JobRow, host: str, now: float) -> None:
    row.state, row.host, row.attempt, row.started = "starting", host, row.attempt + 1, now
    row.reason = row.runner = row.born = row.ended = row.handle = None
    row.asked, row.heartbeat = 0, now
