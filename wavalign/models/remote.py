"""A checkpoint that another machine runs, behind the OpenAI-compatible chat API with audio.

It answers: talk, battles and evaluation. It gives no log-probabilities, so it cannot be trained.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import numpy as np

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Reply, ReplyChunk
from wavalign.models.gathering import TICK_SECONDS, gathered
from wavalign.models.protocol import GenerationError, Request, Sampling
from wavalign.models.remote_audio import ReplyError, SpeechDecoder
from wavalign.models.remote_description import RemoteDescription, key_of
from wavalign.models.remote_http import ChatService
from wavalign.models.remote_wire import Piece, request_body

DEFAULT_SAMPLING = Sampling(temperature=0.8, max_seconds=30.0)
_LONGEST_TEXT = 20_000
_LONGEST_MARK = 20
_SPEECH_TOKENS = re.compile(r"<\|?(audio_\d{1,7}|tts_start)\|?>")
"""As Step-Audio 2 and GLM-4-Voice name theirs; a server that has no decoder sends them as text."""


class RemoteModel:
    """A ``SpokenDialogueModel`` with one checkpoint, ``name``.

    Raises:
        CheckpointError: when its key is not in the environment.
    """

    def __init__(self, name: str, description: RemoteDescription) -> None:
        self.names = (name,)
        self.description = description
        self.sample_rate = description.sample_rate
        self.default_sampling = DEFAULT_SAMPLING
        self._slots = threading.BoundedSemaphore(description.at_once)
        self._service = ChatService(name, description, key_of(description))

    def reply(
        self,
        dialogue: Dialogue,
        sampling: Sampling | None = None,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[ReplyChunk, None, Reply]:
        """Streams one reply and returns it whole; see ``SpokenDialogueModel``."""
        request = Request(dialogue, checkpoint or self.names[0], sampling or self.default_sampling)
        with closing(self.stream_many([request], stop)) as stream:
            while True:
                try:
                    (chunk,) = next(stream)
                except StopIteration as end:
                    return end.value[0]
                if chunk is not None:
                    yield chunk

    def stream_many(
        self, requests: Sequence[Request], stop: threading.Event | None = None
    ) -> Generator[list[ReplyChunk | None], None, list[Reply]]:
        """Streams several replies, ``at_once`` of them asked for at one time; see ``SpokenDialogueModel``.

        Raises:
            GenerationError: when the service refuses, fails, or its answer breaks off.
        """
        for request in requests:
            if request.checkpoint not in self.names:
                raise GenerationError(f'Checkpoint "{request.checkpoint}" is not "{self.names[0]}".')
        bodies = [request_body(self.description, request.dialogue, request.sampling) for request in requests]
        replies = [_Growing(self.sample_rate, request.sampling.max_seconds) for request in requests]
        unwanted = threading.Event()  # tells the readers, which may be waiting for the network, not to go on
        tasks = [self._reader(body, unwanted, reply) for body, reply in zip(bodies, replies, strict=True)]
        try:
            with closing(gathered(tasks, "remote")) as coming:
                for told in coming:
                    if stop is not None and stop.is_set():
                        break
                    if told is None:
                        continue
                    number, piece = told
                    chunk = replies[number].plus(piece)
                    if chunk is not None:
                        yield [chunk if each == number else None for each in range(len(requests))]
            stopped = stop is not None and stop.is_set()
            last = [reply.end(stopped) for reply in replies]
            if any(chunk is not None for chunk in last):
                yield last
            return [reply.whole() for reply in replies]
        except ReplyError as error:
            raise GenerationError(f'"{self.names[0]}": {error}') from error
        finally:
            unwanted.set()

    def reply_many(self, requests: Sequence[Request], stop: threading.Event | None = None) -> list[Reply]:
        """Whole replies, asked for at once."""
        stream = self.stream_many(requests, stop)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                return end.value

    def close(self) -> None:
        self._service.close()

    def _reader(
        self, body: dict, unwanted: threading.Event, reply: _Growing
    ) -> Callable[[Callable[[Piece], None]], None]:
        def read(tell: Callable[[Piece], None]) -> None:
            while not self._slots.acquire(timeout=TICK_SECONDS):
                if unwanted.is_set():
                    return
            try:
                with closing(self._service.ask(body, unwanted)) as pieces:
                    for piece in pieces:
                        if unwanted.is_set() or reply.full.is_set():
                            return
                        tell(piece)
            finally:
                self._slots.release()

        return read


class _Growing:
    """A reply so far. ``full`` is set when its speech has reached its limit: nothing more is wanted."""

    def __init__(self, sample_rate: int, max_seconds: float) -> None:
        self.full = threading.Event()
        self._decoder = SpeechDecoder(sample_rate)
        self._room = int(max_seconds * sample_rate)
        self._rate = sample_rate
        self._parts: list[Waveform] = []
        self._text = ""
        self._source = ""
        self._finished = True

    def plus(self, piece: Piece) -> ReplyChunk | None:
        """What the piece adds."""
        if self.full.is_set():
            return None
        text = self._words(piece)
        self._text += text
        if told := _SPEECH_TOKENS.search(self._text, max(0, len(self._text) - len(text) - _LONGEST_MARK)):
            raise ReplyError(
                f"The service writes speech as tokens among its words ({told[0]}), and nothing decodes them here. Let "
                "it send sound, or add the checkpoint itself."
            )
        if len(self._text) > _LONGEST_TEXT:
            raise ReplyError("The service sent more words than can be a reply.")
        if piece.end is not None and piece.end not in ("stop", "eos", "end_turn"):
            self._finished = False
        waveform = self._kept(self._decoder.add(piece.audio, piece.rate)) if piece.audio else None
        return ReplyChunk(text, waveform) if text or waveform is not None else None

    def end(self, stopped: bool) -> ReplyChunk | None:
        """What was held back, when the answer is over; ``stopped``: it was not waited for."""
        if stopped:
            self._finished = False
        if stopped or self.full.is_set():
            return None
        waveform = self._kept(self._decoder.end())
        return ReplyChunk("", waveform) if waveform is not None else None

    def whole(self) -> Reply:
        """Raises:
        ReplyError: when nothing at all was said.
        """
        samples = [part.samples for part in self._parts]
        if self._finished and not samples and not self._text.strip():
            raise ReplyError("The service answered with neither words nor speech.")
        speech = np.concatenate(samples) if samples else np.zeros(0, np.float32)
        return Reply(self._text.strip(), Waveform(speech, self._rate), (), self._finished)

    def _words(self, piece: Piece) -> str:
        """Of services that send the same words twice, those that came first are kept."""
        if not self._source and (piece.content or piece.transcript):
            self._source = "content" if piece.content else "transcript"
        return getattr(piece, self._source) if self._source else ""

    def _kept(self, waveform: Waveform | None) -> Waveform | None:
        if waveform is None:
            return None
        if len(waveform.samples) >= self._room:
            self.full.set()
            self._finished = False
            waveform = Waveform(waveform.samples[: self._room], self._rate)
        self._room -= len(waveform.samples)
        if not len(waveform.samples):
            return None
        self._parts.append(waveform)
        return waveform
