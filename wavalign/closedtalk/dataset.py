"""ClosedTalk's dialogues as data: words, speech tokens and labels in parquet, so that nobody needs a synthesiser."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class TurnRow:
    """One user turn and its reply.

    ``item`` is an item's id (see ``wavalign.closedtalk.world``), ``demonstration`` an imperfect reply in
    ``delivery``; ``user_codes`` are empty for a typed turn, ``reply_codes`` speak the demonstration.
    """

    text: str
    tone: str
    item: str
    family: str
    kind: str
    requested: str | None
    delivery: str
    answer: str
    demonstration: str
    user_codes: tuple[int, ...]
    reply_codes: tuple[int, ...]


@dataclass(frozen=True)
class DialogueRow:
    """One dialogue; ``signature`` is its wording, tones and voice, and is in one split only."""

    split: str
    index: int
    signature: str
    phrasing: str
    typed: bool
    source: str
    voice: str
    turns: tuple[TurnRow, ...]


_CODES = ("user_codes", "reply_codes")


class DataError(ValueError):
    """A data file that is missing or does not hold dialogues."""


def write_dialogues(path: Path, rows: Iterable[DialogueRow]) -> int:
    """Writes one parquet file, whole or not at all; returns the number of rows.

    The turns' labels are one JSON column; codes are list<list<int16>> columns, one inner list for each turn.
    """
    rows = list(rows)
    columns: dict[str, list] = {
        name: [getattr(row, name) for row in rows]
        for name in ("split", "index", "signature", "phrasing", "typed", "source", "voice")
    }
    columns["turns"] = [
        json.dumps([{k: v for k, v in asdict(turn).items() if k not in _CODES} for turn in row.turns]) for row in rows
    ]
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for name in _CODES:
        arrays[name] = pa.array(
            [[list(getattr(turn, name)) for turn in row.turns] for row in rows], pa.list_(pa.list_(pa.int16()))
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.table(arrays), temporary, compression="zstd")
    temporary.replace(path)
    return len(rows)


def read_dialogues(path: str | Path, limit: int | None = None) -> list[DialogueRow]:
    """Reads the rows in their order.

    Raises:
        DataError: when the file is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is missing; build it with python -m wavalign.closedtalk.build, or restore assets/.")
    try:
        records: Sequence[dict] = pq.read_table(path).slice(0, limit).to_pylist()
        return [_row(record) for record in records]
    except (pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} does not hold ClosedTalk dialogues ({error}).") from error


def _row(record: dict) -> DialogueRow:
    labels = json.loads(record.pop("turns"))
    users, replies = record.pop("user_codes"), record.pop("reply_codes")
    turns = tuple(
        TurnRow(**label, user_codes=tuple(user), reply_codes=tuple(reply))
        for label, user, reply in zip(labels, users, replies, strict=True)
    )
    return DialogueRow(**record, turns=turns)
