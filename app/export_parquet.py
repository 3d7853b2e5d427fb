"""Parquet with the metadata by which Hugging Face ``datasets`` knows an audio column; written without ``datasets``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from app.export_rows import Row, View

_ROWS_A_GROUP = 64

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TEXT, _WHOLE, _NUMBER, _YES_NO = pa.string(), pa.int32(), pa.float64(), pa.bool_()

_IDS = {"battle": _TEXT, "vote": _TEXT}
_COMMON = {"rater": _TEXT, "source": _TEXT, "consent": _TEXT, "category": _TEXT, "language": _TEXT, "turns": _WHOLE}
#: Exactly what TRL takes, and nothing that it would have to skip.
_PREFERENCE_TEXT = {"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES, "margin": _NUMBER}
_UNPAIRED_TEXT = {"prompt": _MESSAGES, "completion": _MESSAGES, "label": _YES_NO}
COLUMNS: dict[View, dict[str, pa.DataType]] = {
    "battles": {
        **_IDS,
        **dict.fromkeys(("prompt", "left_messages", "right_messages"), _MESSAGES),
        **dict.fromkeys(("prompt_audio", "left_audio", "right_audio"), AUDIO),
        **dict.fromkeys(("left_checkpoint", "right_checkpoint", "left_revision", "right_revision", "outcome"), _TEXT),
        **dict.fromkeys(("strength", "helpfulness", "naturalness"), _WHOLE),
        "reason": _TEXT,
        **_COMMON,
        **dict.fromkeys(("kind", "gold_side", "repeat_of", "excluded"), _TEXT),
        "propensity": _NUMBER,
        **dict.fromkeys(("log_duration_ratio", "articulation_rate_difference", "words_difference"), _NUMBER),
        "loudness_difference": _NUMBER,
        **dict.fromkeys(("asked_at", "released_at", "delivered_at", "voted_at"), _NUMBER),
        **dict.fromkeys(("left_heard_seconds", "right_heard_seconds"), _NUMBER),
    },
    "preference": {
        **_PREFERENCE_TEXT,
        **dict.fromkeys(("helpfulness_margin", "naturalness_margin"), _NUMBER),
        **dict.fromkeys(("prompt_audio", "chosen_audio", "rejected_audio"), AUDIO),
        **dict.fromkeys(("chosen_checkpoint", "rejected_checkpoint", "chosen_side"), _TEXT),
        **_IDS,
        **_COMMON,
    },
    "unpaired": {
        **_UNPAIRED_TEXT,
        **dict.fromkeys(("prompt_audio", "completion_audio"), AUDIO),
        **dict.fromkeys(("checkpoint", "side", "outcome"), _TEXT),
        **_IDS,
        **_COMMON,
    },
    "preference_text": _PREFERENCE_TEXT,
    "unpaired_text": _UNPAIRED_TEXT,
}


def schema(view: View) -> pa.Schema:
    """The Arrow schema of one view; the ``huggingface`` metadata say which columns are audio."""
    return with_features(pa.schema(COLUMNS[view]))


def with_features(plain: pa.Schema) -> pa.Schema:
    """The schema with the features that ``datasets`` reads from it."""
    features = {field.name: _feature(field.type) for field in plain}
    return plain.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write(path: Path, view: View, rows: Iterable[Row]) -> int:
    """Streams the rows to one file; returns how many."""
    columns, count = tuple(COLUMNS[view]), 0
    rows = iter(rows)
    with pq.ParquetWriter(path, schema(view), compression="zstd") as writer:
        while batch := list(islice(rows, _ROWS_A_GROUP)):
            shaped = [{name: _value(name, row, count + at) for name in columns} for at, row in enumerate(batch)]
            writer.write_table(pa.Table.from_pylist(shaped, schema=schema(view)))
            count += len(batch)
    return count


def _value(name: str, row: Row, number: int) -> Any:
    value = row[name]
    if not name.endswith("_audio"):
        return value
    return None if value is None else {"bytes": value, "path": f"{number:06d}-{name.removesuffix('_audio')}.wav"}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == AUDIO:
        return {"_type": "Audio"}
    if pa.types.is_list(kind):
        inner = {field.name: _feature(field.type) for field in kind.value_type}
        return {"_type": "List", "feature": inner}
    return {"_type": "Value", "dtype": {"double": "float64"}.get(str(kind), str(kind))}
