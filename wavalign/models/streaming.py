"""Tokens of one reply to text and audio, as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Reply, ReplyChunk
from wavalign.models.layout import TokenMap

_UNFINISHED = "\ufffd"  # a tokenizer's sign for a character whose last bytes are still to come


class ReplyBuilder:
    """Collects the tokens of one reply; ``take`` gives what has become ready since the last call.

    Audio is decoded whenever a chunk's worth of speech tokens is there, so that what was given out never changes.
    """

    def __init__(self, tokens: TokenMap, tokenizer: Any, codec: SpeechCodec) -> None:
        self.map = tokens
        self.tokenizer = tokenizer
        self.codec = codec
        description = tokens.description
        self.speech_sizes = [speech for _, speech in description.first_chunks] + [description.speech_chunk]
        self.tokens: list[int] = []
        self.text = ""
        self._text_ids: list[int] = []
        self._codes: list[int] = []
        self._pushed = 0
        self._stream = codec.stream()
        self._audio: list[np.ndarray] = []

    def add(self, token: int) -> ReplyChunk | None:
        """What this token completes, if anything."""
        self.tokens.append(token)
        if self.map.is_text[token]:
            self._text_ids.append(token)
            text = self._new_text(final=False)
            return ReplyChunk(text) if text else None
        if self.map.speech_start <= token < self.map.speech_stop:
            self._codes.append(token - self.map.speech_start)
            if len(self._codes) >= self.speech_sizes[min(self._pushed, len(self.speech_sizes) - 1)]:
                return self._chunk("", self._push())
        return None

    def finish(self, finished: bool) -> tuple[ReplyChunk | None, Reply]:
        """The last chunk, if there is anything left, and the whole reply."""
        text = self._new_text(final=True)
        if self._codes:
            self._push()
            samples = [self._audio.pop()]
        else:
            samples = []
        if self._pushed:
            samples.append(self._stream.finish())
        rest = np.concatenate(samples) if samples else np.zeros(0, np.float32)
        self._audio.append(rest)
        waveform = Waveform(np.concatenate(self._audio), self.codec.sample_rate)
        return self._chunk(text, rest), Reply(self.text, waveform, tuple(self.tokens), finished)

    def _push(self) -> np.ndarray:
        samples = self._stream.push(self._codes)
        self._codes = []
        self._pushed += 1
        self._audio.append(samples)
        return samples

    def _chunk(self, text: str, samples: np.ndarray) -> ReplyChunk | None:
        waveform = Waveform(samples, self.codec.sample_rate) if len(samples) else None
        return ReplyChunk(text, waveform) if text or waveform else None

    def _new_text(self, final: bool) -> str:
        whole = self.tokenizer.decode(self._text_ids, clean_up_tokenization_spaces=False)
        if not final and (whole.endswith(_UNFINISHED) or not whole.startswith(self.text)):
            return ""
        new = whole[len(self.text) :] if whole.startswith(self.text) else ""
        self.text = whole
        return new
