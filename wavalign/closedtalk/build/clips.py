"""Rendered speech on disk: log-mels in shards, so that every later stage reads and none synthesises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Clip:
    """One utterance. ``mel`` (T, 80) as the microphone heard it.

    ``world`` (T', 33): WORLD features of the clean assistant; ``clean_mel`` and ``pitch`` (T', 2: ln F0, voiced) of a
    user before the microphone. Each is None where it was not analysed.
    """

    key: str
    text: str
    mel: np.ndarray
    world: np.ndarray | None = None
    clean_mel: np.ndarray | None = None
    pitch: np.ndarray | None = None


_ARRAYS = ("mel", "world", "clean_mel", "pitch")


def write_shard(path: Path, clips: list[Clip]) -> None:
    """Writes whole or not at all."""
    columns: dict[str, np.ndarray] = {
        "key": np.array([clip.key for clip in clips]),
        "text": np.array([clip.text for clip in clips]),
    }
    for name in _ARRAYS:
        parts = [getattr(clip, name) for clip in clips]
        columns[f"{name}_length"] = np.array([-1 if part is None else len(part) for part in parts])
        present = [
            part.astype(np.float32 if name in ("world", "pitch") else np.float16) for part in parts if part is not None
        ]
        if present:
            columns[name] = np.concatenate(present)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **columns)
    temporary.replace(path)


def read_shard(path: Path) -> list[Clip]:
    with np.load(path) as stored:
        columns = {name: stored[name] for name in stored.files}
    cursors = dict.fromkeys(_ARRAYS, 0)
    clips = []
    for row in range(len(columns["key"])):
        arrays: dict[str, np.ndarray | None] = {}
        for name in _ARRAYS:
            length = int(columns[f"{name}_length"][row])
            if length < 0:
                arrays[name] = None
                continue
            arrays[name] = columns[name][cursors[name] : cursors[name] + length]
            cursors[name] += length
        clips.append(Clip(str(columns["key"][row]), str(columns["text"][row]), **arrays))
    return clips


def read_all(folder: Path, pattern: str = "*.npz") -> Iterator[Clip]:
    for path in sorted(folder.glob(pattern)):
        if not path.name.endswith(".tmp.npz"):
            yield from read_shard(path)
