"""What a codec is: speech tokens to waveform and back, at one rate, in one flat stream."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from wavalign.audio import Waveform


class StreamingDecoder(Protocol):
    """Turns codes into samples as they come. What it emitted is never changed by later codes."""

    def push(self, codes: list[int]) -> np.ndarray:
        """Adds codes; returns the samples, float32 (n,), that are now final (perhaps none)."""

    def finish(self) -> np.ndarray:
        """Returns the remaining samples. The stream cannot be used afterwards."""


class SpeechCodec(Protocol):
    """Codes are integers in ``range(codebook_size)``; one stream at ``tokens_per_second``."""

    sample_rate: int
    tokens_per_second: float
    codebook_size: int

    def encode(self, waveform: Waveform) -> list[int]:
        """What somebody says to the model, at any sample rate, to codes."""

    def encode_reply(self, waveform: Waveform) -> list[int]:
        """Speech as the model is to make it, at any sample rate, to codes that ``decode`` reads.

        The same as ``encode`` in a codec with one encoder.
        """

    def decode(self, codes: list[int]) -> Waveform:
        """Codes of a reply to a waveform at ``sample_rate``. No codes give an empty waveform."""

    def stream(self) -> StreamingDecoder:
        """A decoder for one reply; its output, concatenated, equals ``decode`` of all codes."""
