"""Audio under the SHA-256 of its bytes. A file is whole and on disk before anything may name it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"[0-9a-f]{64}")


class MissingAudioError(RuntimeError):
    """A row names audio that is not there or is not what it was."""


class AudioFiles:
    """``folder/ab/abcd....wav``. Nothing is ever overwritten."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Writes, syncs the file, renames it into place, syncs the folder; returns the SHA-256."""
        name = hashlib.sha256(data).hexdigest()
        path = self.path(name)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            _sync_folder(self.folder)
        if not path.exists():
            draft = path.with_name(f".{secrets.token_hex(8)}.part")
            try:
                with draft.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return name

    def keep(self, data: bytes) -> str:
        """As ``put``, for a transaction that has the audio lock: costs nothing when the file is still there."""
        name = hashlib.sha256(data).hexdigest()
        return name if self.path(name).exists() else self.put(data)

    def path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"Not the name of an audio file: {name!r}.")
        return self.folder / name[:2] / f"{name}.wav"

    def get(self, name: str) -> bytes:
        """The bytes, checked against their name.

        Raises:
            MissingAudioError: when the file is gone or was changed.
        """
        try:
            data = self.path(name).read_bytes()
        except FileNotFoundError:
            raise MissingAudioError(f"The recording {name[:12]} is not in {self.folder}.") from None
        if hashlib.sha256(data).hexdigest() != name:
            raise MissingAudioError(f"The recording {name[:12]} in {self.folder} was changed.")
        return data

    def drop(self, name: str) -> bool:
        """Deletes; False when it was not there."""
        path = self.path(name)
        found = path.exists()
        path.unlink(missing_ok=True)
        if found:
            _sync_folder(path.parent)
        return found

    def names(self) -> Iterator[str]:
        yield from (path.stem for path in sorted(self.folder.glob("??/*.wav")))

    def age(self, name: str) -> float:
        """Seconds since the file was written; 0 when it is gone."""
        try:
            return time.time() - self.path(name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def sweep_drafts(self, older_than: float) -> int:
        """Deletes what killed processes left half written before that time; returns how many files."""
        drafts = [each for each in self.folder.glob("??/.*.part") if each.stat().st_mtime < older_than]
        for draft in drafts:
            draft.unlink(missing_ok=True)
        return len(drafts)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
