"""Preferences from votes, as parquet or JSONL: one prompt, the reply that was chosen, the one that was not.

A row has a ``prompt`` (typed words, or messages) with ``prompt_audio`` where it was spoken, or ``messages`` and
``audios`` as in the published schema. ``chosen`` and ``rejected`` are words, one assistant message, or
{"text", "audio"}; their sound is in ``chosen_audio`` and ``rejected_audio``. That is the "preference" view of the
arena's exports, too. Ties have no chosen reply and belong in no such file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wavalign.training.data_config import DataConfig
from wavalign.training.examples import Entry, UnreadableRow
from wavalign.training.sources import jsonl, tables
from wavalign.training.sources.rows import MARK, RowError

SPLIT = "preference"
"""The view of an export that holds pairs."""


def read(config: DataConfig, assets: Path) -> tuple[list[Entry], list[UnreadableRow]]:
    """The votes that can be used, and those that cannot."""
    if Path(config.path or "").suffix in (".jsonl", ".json"):
        return jsonl.read(config, assets, as_schema)
    return tables.read(config.model_copy(update={"split": config.split or SPLIT}), assets, as_schema)


def as_schema(row: Any) -> dict[str, Any]:
    """A vote in the published schema's fields; the vote's own id is kept.

    Raises:
        RowError: when a side has no words or no audio (a preference about half a reply teaches the other half
            nothing), or compares conversations of several turns, which part ways after the first reply.
    """
    if not isinstance(row, Mapping):
        raise RowError(f"a vote must be an object, got {type(row).__name__}.")
    row = dict(row)
    for side, target in (("chosen", "sft_target"), ("rejected", "rejected")):
        text, audio = _reply(side, row.pop(side, None))
        text, audio = text or row.pop(f"{side}_text", None), audio or row.pop(f"{side}_audio", None)
        if not text or not _sounds(audio):
            raise RowError(f"the {side} reply needs text and audio.")
        row |= {f"{target}_text": text, f"{target}_audio": audio}
    prompt, spoken = row.pop("prompt", None), row.pop("prompt_audio", None)
    if row.get("messages") is None:
        row |= _prompt(prompt, spoken)
    if row.get("id") in (None, "") and row.get("vote"):
        row["id"] = row["vote"]
    return row


def _reply(side: str, reply: Any) -> tuple[str | None, Any]:
    if isinstance(reply, Mapping):
        return reply.get("text"), reply.get("audio")
    if isinstance(reply, Sequence) and not isinstance(reply, str):
        if len(reply) != 1 or reply[0].get("role") != "assistant":
            raise RowError(f"the {side} side is a conversation of several turns; a pair is of one reply.")
        return reply[0].get("content"), None
    return reply, None


def _prompt(prompt: Any, spoken: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt or ())
    if not messages or not _sounds(spoken):
        return {"messages": messages, "audios": []}
    words = messages[-1].get("content") or ""
    heard = {**messages[-1], "content": f"{words} {MARK}"}
    return {"messages": [*messages[:-1], heard], "audios": [spoken], "question_text": words}


def _sounds(audio: Any) -> bool:
    """Whether there is audio: tables keep a missing one as a struct of nothing."""
    return bool(audio.get("bytes") or audio.get("path")) if isinstance(audio, Mapping) else bool(audio)
