"""Reads what ClosedTalk ships for evaluation: dialogues as tokens, and recordings. No synthesiser is needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from wavalign import audio
from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery, Tone
from wavalign.closedtalk.world import Item, item_of

DATA_FOLDER = "closedtalk-data"
AUDIO_FILE = "evaluation_audio.parquet"


class EvaluationDataError(RuntimeError):
    """Shipped data that is missing or broken; the message is one sentence."""


@dataclass(frozen=True)
class UserTurn:
    """One turn of a shipped dialogue: the user's words and codes, the right answer, and the demonstration.

    ``codes`` are the codec's codes of the user's speech (empty when typed), ``reply_tokens`` the demonstration as a
    completion of the embedded model, ``delivery`` the fitting one, ``requested`` the one asked for in words or None.
    """

    text: str
    tone: Tone
    item: Item
    kind: str
    requested: Delivery | None
    delivery: Delivery
    answer: str
    demonstration: str
    codes: tuple[int, ...]
    reply_tokens: tuple[int, ...]


@dataclass(frozen=True)
class ShippedDialogue:
    """A dialogue as it ships. ``source`` says what made the user's voice."""

    split: str
    index: int
    turns: tuple[UserTurn, ...]
    typed: bool
    phrasing: str
    voice: str
    source: str


@dataclass(frozen=True)
class Recording:
    """A shipped recording: what was said, and how (None for users)."""

    id: str
    kind: str
    text: str
    delivery: Delivery | None
    source: str
    waveform: Waveform


def read_dialogues(assets: Path, split: str, limit: int | None = None) -> list[ShippedDialogue]:
    """The first ``limit`` dialogues of a split (all when None).

    Raises:
        EvaluationDataError: when the file is missing, cannot be read, or lacks a column.
    """
    return [_dialogue(row) for row in _rows(assets / DATA_FOLDER / f"{split}.parquet", limit)]


def read_recordings(assets: Path, kind: str, limit: int | None = None) -> list[Recording]:
    """The first ``limit`` recordings of a kind ("assistant_balanced", "user_heldout", "probe_human", ...).

    Raises:
        EvaluationDataError: when the file is missing or cannot be read.
    """
    rows = [row for row in _rows(assets / DATA_FOLDER / AUDIO_FILE, None, {"kind": kind}) if row["kind"] == kind]
    return [_recording(row) for row in rows[:limit]]


def _rows(path: Path, limit: int | None, equal: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    filters = [(column, "==", value) for column, value in equal.items()] if equal else None
    try:
        rows = pyarrow.parquet.read_table(path, filters=filters).to_pylist()
    except FileNotFoundError as error:
        raise EvaluationDataError(
            f"{path} is missing: build the embedded assets (python -m wavalign.closedtalk.build) or restore the file."
        ) from error
    except (pyarrow.ArrowException, OSError) as error:
        raise EvaluationDataError(f"{path} cannot be read as parquet ({error}).") from error
    return rows[:limit]


def _dialogue(row: Mapping[str, Any]) -> ShippedDialogue:
    try:
        turns = json.loads(row["turns"])
        users, replies = row["user_codes"], row["reply_tokens"]
        return ShippedDialogue(
            split=row["split"],
            index=row["index"],
            turns=tuple(_turn(turn, user, reply) for turn, user, reply in zip(turns, users, replies, strict=True)),
            typed=row["typed"],
            phrasing=row["phrasing"],
            voice=row["voice"],
            source=row["source"],
        )
    except (KeyError, ValueError, TypeError) as error:
        raise EvaluationDataError(f"A shipped dialogue lacks something: {error!r}. Build the assets again.") from error


def _turn(turn: Mapping[str, Any], codes: list[int] | None, reply: list[int]) -> UserTurn:
    requested = turn["requested"]
    return UserTurn(
        text=turn["text"],
        tone=Tone(turn["tone"]),
        item=item_of(turn["item"]),
        kind=turn["kind"],
        requested=None if requested is None else Delivery(requested),
        delivery=Delivery(turn["delivery"]),
        answer=turn["answer"],
        demonstration=turn["demonstration"],
        codes=tuple(codes or ()),
        reply_tokens=tuple(reply),
    )


def _recording(row: Mapping[str, Any]) -> Recording:
    delivery = row.get("delivery")
    return Recording(
        id=str(row["id"]),
        kind=row["kind"],
        text=row["text"],
        delivery=Delivery(delivery) if delivery else None,
        source=row["source"],
        waveform=audio.read(row["ogg"]),
    )
