"""Preferences from votes, as JSONL or parquet: one prompt, the reply that was chosen, the one that was not.

A row has ``messages`` and ``audios`` as in the published schema, or a typed ``prompt``; ``chosen`` and ``rejected``
are {"text", "audio"} objects, or columns chosen_text, chosen_audio, rejected_text, rejected_audio. Ties have no chosen
reply and belong in no such file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavalign.training.data_config import DataConfig
from wavalign.training.examples import Entry, UnreadableRow
from wavalign.training.sources import jsonl, tables
from wavalign.training.sources.rows import RowError


def read(config: DataConfig, assets: Path) -> tuple[list[Entry], list[UnreadableRow]]:
    """The votes that can be used, and those that cannot."""
    reader = jsonl if Path(config.path or "").suffix in (".jsonl", ".json") else tables
    return reader.read(config, assets, as_schema)


def as_schema(row: Any) -> dict[str, Any]:
    """A vote in the published schema's fields.

    Raises:
        RowError: when a side has no words or no audio: a preference about half a reply teaches the other half nothing.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"a vote must be an object, got {type(row).__name__}.")
    row = dict(row)
    for side, target in (("chosen", "sft_target"), ("rejected", "rejected")):
        reply = row.pop(side, None)
        text, audio = row.pop(f"{side}_text", None), row.pop(f"{side}_audio", None)
        if isinstance(reply, Mapping):
            text, audio = reply.get("text") or text, reply.get("audio") or audio
        if not text or not audio:
            raise RowError(f"the {side} reply needs text and audio.")
        row |= {f"{target}_text": text, f"{target}_audio": audio}
    prompt = row.pop("prompt", None)
    if row.get("messages") is None:
        row["messages"] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return row
