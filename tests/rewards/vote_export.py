"""An export of votes by raters who like a high voice, as the arena writes it, without an arena."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wavalign.audio import Waveform

RATE = 16_000
WORDS = ("paris", "three plus four is seven", "the dog is happy", "blue", "hello")
_QUESTIONS = ("what is the capital of france", "what is three plus four", "say hello", "what is the opposite of sad")


def voice(pitch: float, seconds: float = 0.6) -> Waveform:
    clock = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * clock) / harmonic for harmonic in (1, 2, 3, 5))
    return Waveform((0.1 * tone * (0.6 + 0.4 * np.sin(8 * np.pi * clock))).astype(np.float32), RATE)


def write_export(folder: Path, votes: int = 60, raters: int = 6, liking: float = 8.0, seed: int = 0) -> Path:
    """``liking``: logits per octave; 0 is no criterion at all."""
    rng = np.random.default_rng(seed)
    rows = [_row(number, raters, liking, rng) for number in range(votes)]
    (folder / "battles").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "battles" / "battles-0.parquet")
    return folder


def _row(number: int, raters: int, liking: float, rng: np.random.Generator) -> dict[str, Any]:
    pitches = rng.uniform(110, 280, 2)
    d = liking * np.log2(pitches[0] / pitches[1])
    outcome = "left" if rng.random() < 1 / (1 + np.exp(-d)) else "right"
    said = rng.choice(WORDS, 2)
    return {
        "battle": f"b{number}",
        "prompt": [{"role": "user", "content": f"{_QUESTIONS[number % 4]} {'please ' * (number // 4 % 5)}".strip()}],
        "prompt_audio": {"bytes": None, "path": None},
        **{
            f"{side}_messages": [{"role": "assistant", "content": str(words)}]
            for side, words in zip(("left", "right"), said, strict=True)
        },
        **{
            f"{side}_audio": {"bytes": voice(pitch, rng.uniform(0.5, 0.8)).to_wav_bytes(), "path": "a.wav"}
            for side, pitch in zip(("left", "right"), pitches, strict=True)
        },
        "outcome": outcome,
        "rater": f"r{number % raters}",
        "source": "simulated",
        "turns": 1,
        "excluded": None,
    }
