"""What every launcher can do: start a job somewhere, say how it is, give its log, stop it, bring its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.jobs.job import Job, State


@dataclass(frozen=True)
class Polled:
    """Where a job stands for its launcher; None in ``state`` means that nothing is known just now."""

    state: State | None
    reason: str = ""


class Launcher(Protocol):
    """Handles are plain JSON, kept in the job's row: a launcher remembers nothing itself."""

    def submit(self, job: Job, home: Path, assets: Path) -> Mapping[str, Any]:
        """Starts the job's current attempt; a folder that holds a checkpoint goes on from it.

        Raises:
            JobError: one sentence, when it cannot be started.
        """

    def poll(self, job: Job) -> Polled:
        """How the attempt is."""

    def logs(self, job: Job, size: int) -> str:
        """The last ``size`` characters of what the attempt printed."""

    def stop(self, job: Job, level: int) -> None:
        """Asks for an end, gently or at once; ``poll`` tells when it has come."""

    def fetch(self, job: Job) -> None:
        """Brings what the attempt has written into the job's folder here."""
