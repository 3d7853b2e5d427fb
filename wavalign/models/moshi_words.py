"""When words are said: a text spread over the frames of its speech, as Moshi's text stream has it.

Moshi writes each word at the frame in which it begins to be said. Data sets have no such times, so a word begins where
its share of the letters lies between the first and the last frame that are not silent: right on average for evenly
spoken replies, some frames off within a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavalign.audio import Waveform
from wavalign.models.moshi_columns import MoshiIds
from wavalign.models.protocol import GenerationError

_QUIET_DB = 40.0
"""Frames this much below the loudest are silence."""


@dataclass(frozen=True)
class Piece:
    """A text token; ``begins``: where in the text (0 to 1) the word begins that it begins, None inside a word."""

    token: int
    begins: float | None


def pieces_of(text: str, tokenizer: Any, is_text: np.ndarray) -> list[Piece]:
    """The words of a text; marks spelled out in it do not become marks."""
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pieces: list[Piece] = []
    for token, (start, stop) in zip(made["input_ids"], made["offset_mapping"], strict=True):
        if token >= len(is_text) or not is_text[token]:
            continue
        while start < stop and text[start].isspace():
            start += 1
        new = not pieces or start == 0 or text[start - 1].isspace()
        pieces.append(Piece(int(token), start / len(text) if new else None))
    return pieces


def spoken_part(waveform: Waveform, samples_per_frame: int) -> tuple[int, int]:
    """The first frame that is not silent, and the one behind the last."""
    count = -(-len(waveform.samples) // samples_per_frame)
    padded = np.pad(waveform.samples, (0, count * samples_per_frame - len(waveform.samples)))
    power = (padded.reshape(count, -1).astype(np.float64) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-_QUIET_DB / 10))
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, count)


def placed(pieces: Sequence[Piece], count: int, part: tuple[int, int], ids: MoshiIds) -> np.ndarray:
    """The text stream int64 (count,) of ``count`` frames, of which ``part`` (first, behind the last) is spoken.

    Padding that would be taken for the end of the reply is broken by a token that announces a word.

    Raises:
        GenerationError: when there are more text tokens than frames.
    """
    if len(pieces) > count:
        raise GenerationError(
            f"The speech is too short for its text: {count} frames of 80 ms for {len(pieces)} text tokens."
        )
    text = np.full(count, ids.padding, dtype=np.int64)
    first, stop = part
    at = -1
    for number, piece in enumerate(pieces):
        wanted = 0 if piece.begins is None else first + int(piece.begins * (stop - first))
        at = min(max(at + 1, wanted), count - (len(pieces) - number))
        text[at] = piece.token
        if piece.begins is not None and at and text[at - 1] == ids.padding:
            text[at - 1] = ids.word_comes
    run = None
    for at, token in enumerate(text):
        if token != ids.padding:
            run = run if run is None and token == ids.word_comes else 0
        elif run is not None:
            run += 1
            if run > ids.pause - 2:  # two steps of padding are left for the end
                text[at], run = ids.word_comes, 0
    return text


def padding_behind(text: np.ndarray, ids: MoshiIds) -> int:
    """Steps of padding that a text stream (n,) needs behind it until a pause ends the reply."""
    return ids.pause - int(np.argmax(text[::-1] != ids.padding))
