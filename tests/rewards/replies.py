"""Replies to rate, and a world small enough to rate them in by hand."""

from __future__ import annotations

import numpy as np

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards.protocol import Answer
from wavalign.training.examples import Example

FACTS = {"item": "add/seven/five", "delivery": "neutral"}


def example(id_: str = "a", question: str | None = "what is seven plus five", **facts) -> Example:
    turn = Turn("user", text=question) if question else Turn("user", codes=(1, 2))
    return Example(id_, Dialogue((turn,)), question_text=question, facts={**FACTS, **facts})


def buzz(frequency: float = 120, seconds: float = 0.8, level: float = 0.1, rate: int = 16_000) -> Waveform:
    """A voiced sound: twenty harmonics of ``frequency`` Hz."""
    clock = np.arange(int(seconds * rate)) / rate
    return Waveform(level * sum(np.sin(2 * np.pi * frequency * h * clock) / h for h in range(1, 20)), rate)


def silence(seconds: float = 0.5, rate: int = 16_000) -> Waveform:
    return Waveform(np.zeros(int(seconds * rate)), rate)


def answer(text: str = "twelve", waveform: Waveform | None = None, of: Example | None = None, **fields) -> Answer:
    return Answer(of or example(), text, waveform, **{"finished": True, **fields})
