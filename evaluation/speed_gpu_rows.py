"""Spoken questions with targets in a model's own codes: something to train a random checkpoint on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from wavalign.audio import Waveform, write


def hum(seconds: float, pitch: float = 150.0, sample_rate: int = 16_000) -> Waveform:
    clock = np.arange(int(seconds * sample_rate)) / sample_rate
    return Waveform((0.3 * np.sin(2 * np.pi * pitch * clock)).astype(np.float32), sample_rate)


def rows_of_codes(folder: Path, books: int, codes: int, frames: int = 12) -> str:
    """A JSONL file of four spoken questions with targets in a model's own codes; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for number, words in enumerate(("one two", "three four five", "six", "seven eight")):
        write(folder / f"{number}.wav", hum(0.4 + 0.1 * number, 120 + 20 * number))
        drawn = rng.integers(0, codes, (frames + number, books)) + np.arange(books) * codes
        row = {"id": str(number), "messages": [{"role": "user", "content": "<|audio|>"}], "audios": [f"{number}.wav"]}
        row |= {"sft_target_text": words, "sft_target_codes": drawn.flatten().tolist(), "question_text": "what is it"}
        lines.append(json.dumps(row))
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "rows.jsonl")
