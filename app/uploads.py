"""The folder that browsers upload into: private to this user, with nothing of the machine in its name."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

HOURS = 2.0


def private_folder() -> Path:
    """A folder that only this user reads; what an earlier process left there too long ago is deleted."""
    folder = Path(tempfile.gettempdir()) / f"wavalign-uploads-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid == os.getuid() and not folder.is_symlink():
            folder.chmod(0o700)
            _sweep(folder)
            return folder
    except OSError:
        pass  # somebody else's: another one, under a name nobody can take first
    return Path(tempfile.mkdtemp(prefix="wavalign-uploads-"))


def _sweep(folder: Path) -> None:
    for path in folder.rglob("*"):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > 3600 * HOURS:
                path.unlink()
                path.parent.rmdir()
        except OSError:  # not empty, or another process was faster
            continue
