"""Audio that a page plays: files under random names, kept for a few hours at most."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from pathlib import Path

from wavalign.audio import Waveform


class Recordings:
    """A folder of its own. Whoever knows a file's name can fetch it, so the names cannot be guessed."""

    def __init__(self, folder: Path, hours: float) -> None:
        self.folder = folder
        self._seconds = 3600 * hours
        folder.mkdir(parents=True, exist_ok=True)
        self.sweep()

    def put(self, waveform: Waveform) -> Path:
        path = self.folder / f"{secrets.token_urlsafe(18)}.wav"
        path.write_bytes(waveform.to_wav_bytes())
        return path

    def put_file(self, name: str, data: bytes) -> Path:
        """A file to download under a readable ``name``, in a folder whose name cannot be guessed."""
        path = self.place(name)
        path.write_bytes(data)
        return path

    def place(self, name: str) -> Path:
        """Where a file to download under that name may be written."""
        folder = self.folder / secrets.token_urlsafe(18)
        folder.mkdir()
        return folder / name

    def drop(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            if path.parent != self.folder and path.parent.is_dir():
                path.parent.rmdir()

    def sweep(self) -> int:
        """Deletes what is too old; returns how many files that were."""
        too_old = [path for path in self.folder.rglob("*.*") if time.time() - path.stat().st_mtime > self._seconds]
        self.drop(too_old)
        return len(too_old)
