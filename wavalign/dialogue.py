"""What is said: turns, a dialogue, and a reply, whole or in chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from wavalign.audio import Waveform

Role = Literal["user", "assistant"]


@dataclass(frozen=True)
class Turn:
    """One turn. A user turn is speech or typed text; an assistant turn is the tokens that were generated.

    ``tokens`` are the completion's token ids (text and speech interleaved) of an assistant turn; a model that is
    given them back continues from exactly what it said. ``codes`` are speech that the model's codec has encoded
    already: they stand for ``speech``, and beside them a user's ``text`` is only a transcript.
    """

    role: Role
    text: str | None = None
    speech: Waveform | None = None
    tokens: tuple[int, ...] | None = None
    codes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.text is None and self.speech is None and self.tokens is None and self.codes is None:
            raise ValueError(f"The {self.role}'s turn is empty: give it text, speech, codes or tokens.")


@dataclass(frozen=True)
class Dialogue:
    """Turns in order. A model answers a dialogue whose last turn is the user's."""

    turns: tuple[Turn, ...] = ()

    def plus(self, turn: Turn) -> Dialogue:
        return replace(self, turns=(*self.turns, turn))


@dataclass(frozen=True)
class ReplyChunk:
    """What was added to a reply since the last chunk. ``waveform`` is None when only text was added."""

    text: str = ""
    waveform: Waveform | None = None


@dataclass(frozen=True)
class Reply:
    """A whole reply. ``finished`` is False when it was cut at the token limit."""

    text: str
    waveform: Waveform
    tokens: tuple[int, ...]
    finished: bool = True

    def as_turn(self) -> Turn:
        return Turn("assistant", text=self.text, speech=self.waveform, tokens=self.tokens)
