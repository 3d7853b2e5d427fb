"""Checkpoints that a kill cannot spoil: written aside, the manifest last, then renamed.

A checkpoint is complete when its manifest is there and every file has the size and hash that the manifest says.
Between steps there are no rollouts in memory and no cursor in the data: weights, optimiser and a few numbers are all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST, STATE = "manifest.json", "state.json"
HALF_WRITTEN = ".tmp-step-*"
_NAME = re.compile(r"step-(\d+)")


class BrokenCheckpoint(RuntimeError):
    """A checkpoint that is not what its manifest says; the message names the file."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A complete checkpoint on disk. ``state`` is what was given to ``save``."""

    folder: Path
    step: int
    state: Mapping[str, Any]


def save(folder: Path, step: int, state: Mapping[str, Any], write: Callable[[Path], None]) -> Path:
    """Makes ``folder/step-N`` whole or not at all; ``write`` puts the large files into the folder that it is given."""
    final = folder / f"step-{step}"
    temporary = folder / f".tmp-step-{step}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    write(temporary)
    (temporary / STATE).write_text(json.dumps({"step": step, **state}, indent=1) + "\n", encoding="utf-8")
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    listing = {str(path.relative_to(temporary)): _described(path) for path in files}
    for path in files:
        _to_disk(path)
    (temporary / MANIFEST).write_text(json.dumps({"step": step, "files": listing}, indent=1) + "\n", encoding="utf-8")
    _to_disk(temporary / MANIFEST)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _to_disk(folder)
    return final


def latest(folder: Path) -> SavedCheckpoint | None:
    """The newest complete checkpoint; incomplete ones are passed over."""
    for _, path in sorted(_numbered(folder), reverse=True):
        try:
            return read(path)
        except BrokenCheckpoint:
            continue
    return None


def read(path: Path) -> SavedCheckpoint:
    """Raises:
    BrokenCheckpoint: when the manifest is missing, or a file is not what it says.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        for name, described in manifest["files"].items():
            if _described(path / name) != described:
                raise BrokenCheckpoint(f"{path / name} is not the file that was saved.")
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        return SavedCheckpoint(path, int(manifest["step"]), state)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenCheckpoint(f"The checkpoint {path} is not complete ({error}).") from error


def prune(folder: Path, keep: int) -> None:
    """Leaves the newest ``keep`` checkpoints, and nothing half-written."""
    for _, path in sorted(_numbered(folder), reverse=True)[keep:]:
        shutil.rmtree(path)
    for path in folder.glob(HALF_WRITTEN):
        shutil.rmtree(path)


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return [(int(match[1]), path) for match, path in found if match]


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
