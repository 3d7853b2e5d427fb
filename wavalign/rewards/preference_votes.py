"""Votes as a reward model learns from them, read from the arena's exports.

The ``battles`` view holds everything: sides as presented, ties, both bad. The ``preference`` view has the decided votes
alone; with ``chosen_side`` its rows tell sides too. Where a folder holds both, ``battles`` is read.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from wavalign import audio
from wavalign.audio import AudioError
from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards.preference_features import Met
from wavalign.rewards.preference_fit import OUTCOMES
from wavalign.rewards.protocol import RewardError

View = Literal["battles", "preference"]
_SWAPPED = {"left": "right", "right": "left"}
_SEVERAL_TURNS = "several turns"


@dataclass(frozen=True)
class Vote:
    """One vote on two replies to one question; ``prompt`` is the same text for the same question."""

    left: Met
    right: Met
    outcome: int
    prompt: str
    rater: str


@dataclass
class Votes:
    """The votes of an export, read one after another: recordings would fill the memory.

    ``left_out`` counts, by reason, those that cannot be learned from; it is complete after they were read.
    """

    path: Path
    view: View
    source: str
    table: pa.Table
    left_out: Counter[str]

    @classmethod
    def of(cls, export: Path) -> Votes:
        """Raises:
        RewardError: when there is no such export, or human and simulated votes are mixed in it.
        """
        view, files = _files(Path(export))
        try:
            table = pa.concat_tables(pq.read_table(file, memory_map=True) for file in files)
            sources = set(table.column("source").to_pylist())
        except (pa.ArrowException, KeyError, OSError) as error:
            raise RewardError(f"{export} is not an export of votes ({str(error).splitlines()[0]}).") from error
        if len(sources) > 1:
            raise RewardError(f"{export} mixes votes of {' and '.join(sorted(sources))} raters; export them apart.")
        if not sources:
            raise RewardError(f"{export} holds no vote.")
        return cls(Path(export), view, sources.pop(), table, Counter())

    def __len__(self) -> int:
        """Rows, usable or not."""
        return self.table.num_rows

    def __iter__(self) -> Iterator[Vote]:
        self.left_out.clear()
        read = _battle if self.view == "battles" else _preference
        for place in range(len(self)):
            row = self.table.slice(place, 1).to_pylist()[0]
            if row.get("excluded"):
                self.left_out[str(row["excluded"])] += 1
            elif row["turns"] != 1:
                self.left_out[_SEVERAL_TURNS] += 1
            else:
                try:
                    yield read(row)
                except AudioError:
                    self.left_out["recordings that cannot be read"] += 1


def _files(export: Path) -> tuple[View, list[Path]]:
    if export.is_file():
        names = pq.read_schema(export).names if export.suffix == ".parquet" else []
        if "outcome" in names and "left_audio" in names:
            return "battles", [export]
        if "chosen_side" in names:
            return "preference", [export]
    views: tuple[View, ...] = ("battles", "preference")
    for view in views:
        files = sorted(export.glob(f"{view}/*.parquet")) or sorted(export.glob(f"{view}-*.parquet"))
        if files:
            return view, files
    raise RewardError(
        f"{export} holds no votes: neither battles/*.parquet nor preference/*.parquet. "
        "Make an export with python -m app.export write FOLDER."
    )


def _battle(row: Mapping[str, Any]) -> Vote:
    prompt, key = _prompt(row)
    sides = {side: _met(prompt, row[f"{side}_messages"], row[f"{side}_audio"]) for side in _SWAPPED}
    return Vote(sides["left"], sides["right"], OUTCOMES.index(row["outcome"]), key, row["rater"])


def _preference(row: Mapping[str, Any]) -> Vote:
    prompt, key = _prompt(row)
    chosen = row["chosen_side"]
    sides = {
        chosen: _met(prompt, row["chosen"], row["chosen_audio"]),
        _SWAPPED[chosen]: _met(prompt, row["rejected"], row["rejected_audio"]),
    }
    return Vote(sides["left"], sides["right"], OUTCOMES.index(chosen), key, row["rater"])


def _prompt(row: Mapping[str, Any]) -> tuple[Dialogue, str]:
    """What was asked, and what is held out together: the words, or the recording where there are none."""
    words = row["prompt"][-1]["content"].strip()
    sound = (row["prompt_audio"] or {}).get("bytes")
    turn = Turn("user", text=words or None, speech=audio.read(sound)) if sound else Turn("user", text=words)
    return Dialogue((turn,)), words.lower() or hashlib.sha256(sound or b"").hexdigest()


def _met(prompt: Dialogue, messages: list[Mapping[str, str]], sound: Mapping[str, Any] | None) -> Met:
    data = (sound or {}).get("bytes")
    return Met(prompt, messages[-1]["content"], audio.read(data) if data else None)
