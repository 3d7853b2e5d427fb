"""A job as everybody but the database sees it: what is to run, where it stands, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.store.job_rows import JobRow

State = Literal["queued", "starting", "running", "stopping", "completed", "stopped", "failed", "crashed"]
ACTIVE: tuple[State, ...] = ("starting", "running", "stopping")
FINAL: tuple[State, ...] = ("completed", "stopped", "failed", "crashed")
GENTLY, AT_ONCE = 1, 2
"""How a stop is asked for: save first, or do not wait."""


class JobError(ValueError):
    """What cannot be done with a job; the message is one sentence for the person who asked."""


@dataclass(frozen=True)
class Job:
    """One run and all of its attempts. Times are seconds since 1970; ``asked`` is 0, GENTLY or AT_ONCE."""

    id: str
    at: float
    name: str
    folder: Path
    launcher: str
    processes: int
    priority: int
    settings: Mapping[str, Any] = field(repr=False)
    state: State
    reason: str | None
    asked: int
    attempt: int
    host: str | None
    runner: int | None
    born: float | None
    heartbeat: float | None
    handle: Mapping[str, Any] | None
    started: float | None
    ended: float | None
    notes: str
    parent: str | None
    promoted: str | None

    @classmethod
    def of(cls, row: JobRow) -> Job:
        values = {name: getattr(row, name) for name in cls.__dataclass_fields__}
        return cls(**{**values, "folder": Path(row.folder)})

    @property
    def minutes(self) -> float | None:
        """The longest that one start of the job may train; None where only its steps limit it."""
        return self.settings.get("minutes")

    @property
    def is_final(self) -> bool:
        return self.state in FINAL
