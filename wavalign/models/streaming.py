"""Tokens of one reply to text and audio, as they come.

Speech is decoded on another thread while the next tokens are made: a codec's work hides behind the language model's
where there is a second core. Audio comes a chunk of speech tokens at a time, in longer pieces as long as the reply is
made much faster than it plays, because many codecs decode a long piece more cheaply than several short ones.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np

from wavalign.audio import Waveform
from wavalign.codecs.protocol import SpeechCodec
from wavalign.dialogue import Reply, ReplyChunk
from wavalign.models.layout import TokenMap

_UNFINISHED = "\ufffd"  # a tokenizer's sign for a character whose last bytes are still to come
_LONGEST_PIECE = 4


class ReplyBuilder:
    """Collects the tokens of one reply. ``take`` never waits; after ``end``, ``wait`` until ``reply`` is there."""

    def __init__(self, tokens: TokenMap, tokenizer: Any, codec: SpeechCodec, executor: Executor) -> None:
        self.map = tokens
        self.tokenizer = tokenizer
        self.codec = codec
        self.executor = executor
        description = tokens.description
        self.chunk = description.speech_chunk
        self.tokens: list[int] = []
        self.text = ""
        self.reply: Reply | None = None
        self._text_ids: list[int] = []
        self._taken = 0
        self._codes: list[int] = []
        self._pushed = 0
        self._piece = description.first_chunks[0][1] if description.first_chunks else self.chunk
        self._stream = codec.stream()
        self._job: Future[np.ndarray] | None = None
        self._audio: list[np.ndarray] = []
        self._finished: bool | None = None
        self._rest_asked = False
        self._last_push = time.monotonic()

    def add(self, token: int) -> None:
        self.tokens.append(token)
        if self.map.is_text[token]:
            self._text_ids.append(token)
            self._read_text(final=False)
        elif self.map.speech_start <= token < self.map.speech_stop:
            self._codes.append(token - self.map.speech_start)

    def end(self, finished: bool) -> None:
        """No more tokens come; ``finished`` tells whether the reply ended by itself."""
        if self._finished is None:
            self._finished = finished
            self._read_text(final=True)

    def take(self) -> ReplyChunk | None:
        """What has become ready since the last call; starts the codec's next work."""
        waveform = None
        if self._job is not None and self._job.done():
            samples, self._job = self._job.result(), None
            self._audio.append(samples)
            waveform = Waveform(samples, self.codec.sample_rate) if len(samples) else None
        if self._job is None and self.reply is None:
            self._go_on()
        text, self._taken = self.text[self._taken :], len(self.text)
        return ReplyChunk(text, waveform) if text or waveform else None

    def wait(self) -> None:
        """Until the codec's work under way is done."""
        if self._job is not None:
            self._job.result()

    def cancel(self) -> None:
        """Nobody wants the rest: work that has not begun is dropped."""
        if self._job is not None:
            self._job.cancel()

    def _go_on(self) -> None:
        if self._finished is None:
            if len(self._codes) - self._pushed >= self._piece:
                self._push()
        elif self._codes and not self._rest_asked:
            # What a stream gives out, in all, is the decoded whole: its end is what was not given yet.
            codes, given = list(self._codes), sum(map(len, self._audio))
            self._rest_asked = True
            self._job = self.executor.submit(lambda: self.codec.decode(codes).samples[given:])
        else:
            samples = np.concatenate(self._audio) if self._audio else np.zeros(0, np.float32)
            waveform = Waveform(samples, self.codec.sample_rate)
            self.reply = Reply(self.text, waveform, tuple(self.tokens), self._finished)

    def _push(self) -> None:
        codes = self._codes[self._pushed :]
        self._pushed = len(self._codes)
        self._job = self.executor.submit(self._stream.push, codes)
        now = time.monotonic()
        # The next piece is what can be made in half the time that this one plays.
        speed = len(codes) / self.codec.tokens_per_second / max(now - self._last_push, 1e-6)
        self._piece = self.chunk * max(1, min(_LONGEST_PIECE, int(speed / 2)))
        self._last_push = now

    def _read_text(self, final: bool) -> None:
        whole = self.tokenizer.decode(self._text_ids, clean_up_tokenization_spaces=False)
        if whole.startswith(self.text) and (final or not whole.endswith(_UNFINISHED)):
            self.text = whole
