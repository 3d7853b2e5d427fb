"""The recordings of a run: the same held-out prompts at each evaluation, the untrained base first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from app.jobs.job import JobError
from wavalign.training.journal import SAMPLES, read_lines

_STEP = re.compile(r"step-(\d+)")
_FILE = re.compile(r"\d{2,4}\.wav")


def grid(folder: Path) -> dict[str, Any]:
    """``steps``, and a row a prompt with a cell a step (None where there is none), as plain JSON."""
    by_step = {step: read_lines(place / "samples.jsonl") for step, place in _places(folder)}
    prompts: dict[str, dict[str, Any]] = {}
    for step, replies in by_step.items():
        for reply in replies:
            row = prompts.setdefault(reply["id"], {"id": reply["id"], "question": reply.get("question"), "cells": {}})
            row["cells"][step] = {
                "file": reply["file"],
                "text": reply["text"],
                "heard": reply.get("heard"),
                "errors": reply.get("errors", 0),
                "words": reply.get("words", 0),
                "delivery": reply.get("delivery"),
                "nearest": reply.get("nearest"),
                "seconds": round(reply.get("seconds", 0.0), 2),
            }
    steps = list(by_step)
    rows = [{**row, "cells": [row["cells"].get(step) for step in steps]} for row in prompts.values()]
    return {"steps": steps, "rows": rows}


def recording(folder: Path, step: int, file: str) -> bytes:
    """One reply as a wav file.

    Raises:
        JobError: when there is no such recording.
    """
    path = folder / SAMPLES / f"step-{int(step)}" / file
    if not _FILE.fullmatch(file) or not path.is_file():
        raise JobError("That recording is not there any more.")
    return path.read_bytes()


def _places(folder: Path) -> list[tuple[int, Path]]:
    samples = folder / SAMPLES
    if not samples.is_dir():
        return []
    found = ((_STEP.fullmatch(path.name), path) for path in samples.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match and (path / "samples.jsonl").is_file())
