"""What an evaluation has found so far, on disk: appended line by line, so that a kill loses a batch at most.

replies.jsonl  one line a reply: who said what to which prompt, its sound's file and its acoustic measures, or why it
               failed
scores.jsonl   one line a score of a task, or why a task could not be scored
sounds/        one wav a reply

Several processes each write files of their own (replies.003.jsonl), which the first of them puts together in the end.

Of several lines about the same reply the last counts: a failed one that was tried again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wavalign.audio import Waveform
from wavalign.training.journal import read_lines

REPLIES, SCORES, SOUNDS = "replies.jsonl", "scores.jsonl", "sounds"
Key = tuple[str, str, str, int]
"""task, checkpoint, item, sample"""


@dataclass(frozen=True)
class ReplyRecord:
    """One reply. ``error`` is why there is none; then nothing else of it is known.

    ``values`` are acoustic measures, ``weights`` what each counts in a mean (default 1), ``failed`` reasons of those
    that failed. ``groups`` are the prompt's further breakdowns, ``sound`` a path within the work folder.
    """

    task: str
    checkpoint: str
    item: str
    sample: int
    category: str
    seed: int
    question: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    text: str = ""
    transcript: str | None = None
    finished: bool = False
    sound: str | None = None
    values: Mapping[str, float | None] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.task, self.checkpoint, self.item, self.sample


@dataclass(frozen=True)
class ScoreRecord:
    """The scores of one reply, as the task gave them."""

    task: str
    checkpoint: str
    item: str
    sample: int
    values: Mapping[str, float | None]
    failed: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.task, self.checkpoint, self.item, self.sample


class Records:
    """The records of one work folder, those of all processes, read once and kept in step with what is written.

    ``shard`` None writes into the files themselves, a number into that process's own.
    """

    def __init__(self, folder: Path, shard: int | None = None) -> None:
        self.folder, self.shard = folder, shard
        self.read()

    def read(self) -> None:
        """What all processes have written by now."""
        self.replies = {record.key: record for record in self._all(REPLIES, ReplyRecord)}
        self.scores = {record.key: record for record in self._all(SCORES, ScoreRecord)}

    def add_replies(self, records: Iterable[ReplyRecord]) -> None:
        """Durable when it returns."""
        records = list(records)
        _append(self._own(REPLIES), [asdict(record) for record in records])
        self.replies |= {record.key: record for record in records}

    def add_scores(self, records: Iterable[ScoreRecord]) -> None:
        records = list(records)
        _append(self._own(SCORES), [asdict(record) for record in records])
        self.scores |= {record.key: record for record in records}

    def put_together(self, order: Sequence[Key]) -> None:
        """Writes what all processes have found into one file of each kind, in this order, and takes theirs away.

        A kill on the way leaves both: the same records twice.
        """
        places = {key: place for place, key in enumerate(order)}
        for name, kind in ((REPLIES, ReplyRecord), (SCORES, ScoreRecord)):
            shards = _shards(self.folder, name)
            if not shards:
                continue
            last = {record.key: record for record in self._all(name, kind)}
            ordered = sorted(last.values(), key=lambda record: places.get(record.key, len(places)))
            temporary = self.folder / f".{name}.tmp"
            temporary.unlink(missing_ok=True)
            _append(temporary, [asdict(record) for record in ordered])
            temporary.replace(self.folder / name)
            for shard in shards:
                shard.unlink()
        self.read()

    def _own(self, name: str) -> Path:
        return self.folder / (name if self.shard is None else f"{Path(name).stem}.{self.shard:03d}.jsonl")

    def _all(self, name: str, kind: type[Any]) -> list[Any]:
        return [record for path in (self.folder / name, *_shards(self.folder, name)) for record in _records(path, kind)]

    def keep_sound(self, key: Key, waveform: Waveform) -> str:
        """Writes a reply's sound whole, before its record; returns its path within the folder."""
        task, checkpoint, item, sample = key
        name = hashlib.sha256(f"{task}\0{item}\0{sample}".encode()).hexdigest()[:20]
        path = self.folder / SOUNDS / checkpoint / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(waveform.to_wav_bytes())
        temporary.replace(path)
        return str(path.relative_to(self.folder))


def _shards(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{Path(name).stem}.[0-9]*.jsonl"))


def _records(path: Path, kind: type[Any]) -> list[Any]:
    known = set(kind.__dataclass_fields__)
    return [
        kind(**line) for line in read_lines(path) if isinstance(line, dict) and set(line) <= known and "item" in line
    ]


def _append(path: Path, lines: list[dict[str, Any]]) -> None:
    if not lines:
        return
    data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    with path.open("ab+") as stream:
        if stream.seek(0, os.SEEK_END):
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":  # a line that a kill has cut
                data = b"\n" + data
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
