"""A megabyte of disk held back, so that the end of a job can still be noted when its run has filled the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

_BYTES = 2**20
_ENOUGH = 8 * 2**20
"""With so much free, the spare is made (again)."""


class Spare:
    def __init__(self, home: Path) -> None:
        self.path = home / "jobs" / "spare"

    def keep(self) -> None:
        """Holds the space where it can be had; a disk that is nearly full is left alone."""
        with contextlib.suppress(OSError):
            if self.path.exists() or shutil.disk_usage(self.path.parents[1]).free < _ENOUGH:
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("wb") as file:
                file.write(os.urandom(_BYTES))  # what compresses would hold no space

    def release(self) -> bool:
        """Gives the space back; False where there was none."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True
