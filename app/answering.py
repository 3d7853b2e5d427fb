"""One exchange: a turn goes in, both replies stream out together, then their measures. Knows no page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from app.conversation import Answer, Asked, Conversation, Exchange, Figures
from wavalign.audio import Waveform
from wavalign.dialogue import Reply
from wavalign.models.protocol import Request, Sampling, SpokenDialogueModel

OUTSIDE_TYPED = (
    "That is outside the small world this model knows, so it was not asked. Try one of the examples, or press Again "
    "to hear what it makes of it."
)
OUTSIDE_SPOKEN = (
    "That sounds like something outside the small world this model knows, so the answer may make no sense. Try one of "
    "the examples."
)
ONLY_HEARS = "Trained to listen, not to read: {}. The answer may make no sense; record the question instead."
UNHEARD = "No clear words were heard, so the answer may make no sense. Speak a little closer to the microphone."
_CLEAR_FIT = 0.55


@dataclass(frozen=True)
class Heard:
    """What the recogniser made of a user's turn; ``fit`` in 0..1 says how well the letters match known words."""

    text: str
    fit: float


class Senses(Protocol):
    """What is done with speech besides answering it. Each may take a while and is called from another thread."""

    def hear(self, waveform: Waveform) -> Heard | None:
        """The words of a user's turn; None when there is no recogniser."""

    def knows(self, text: str, history: Sequence[str]) -> bool:
        """Whether the checkpoints' world holds an answer to this, given the earlier questions."""

    def gauge(self, reply: Reply) -> tuple[Figures, str | None]:
        """The reply's measures (without its times) and the delivery it is nearest to."""


@dataclass(frozen=True)
class AsRecommended:
    """Each side sampled as its own checkpoint recommends, but for the seed, and for at most so many seconds."""

    seed: int
    longest_seconds: float


@dataclass(frozen=True)
class LiveSide:
    """A reply so far. ``audio`` has one waveform a chunk; both times count from the ask."""

    text: str = ""
    audio: tuple[Waveform, ...] = ()
    first_audio_seconds: float | None = None
    seconds: float = 0.0

    def plus(self, text: str, waveform: Waveform | None, now: float) -> LiveSide:
        heard = waveform is not None and len(waveform.samples) > 0
        return LiveSide(
            self.text + text,
            (*self.audio, waveform) if heard else self.audio,
            now if heard and self.first_audio_seconds is None else self.first_audio_seconds,
            now,
        )


@dataclass(frozen=True)
class Live:
    """An exchange under way."""

    asked: Asked
    sides: tuple[LiveSide, ...] = ()
    measuring: bool = False


@dataclass
class Answering:
    """Answers one turn of a conversation; several may run on one model at once."""

    model: SpokenDialogueModel
    senses: Senses
    clock: Callable[[], float] = time.perf_counter
    knows_more: frozenset[str] = frozenset()
    """Checkpoints that are not bound to the small world that the senses know: they get a typed turn in its own words,
    and what the senses would make of their words is not told."""
    only_hear: frozenset[str] = frozenset()
    """Checkpoints that were not trained to read: what is typed is put to them all the same, with a note."""
    recommended: Mapping[str, Sampling] = field(default_factory=dict)
    """What checkpoints recommend. Where the visitor's own settings hold for both sides, these are still the
    checkpoint's: how many tokens a reply may have (a second of speech is 12 tokens of one model and 200 of another)
    and the repetition guard."""

    def run(
        self,
        conversation: Conversation,
        asked: Asked,
        sampling: Sampling | AsRecommended,
        stop: threading.Event,
        even_if_outside: bool = False,
    ) -> Generator[Live, None, Exchange]:
        """Yields the exchange as it grows; returns it whole. Closing the generator ends the generation.

        A typed turn outside the checkpoints' world is not answered unless ``even_if_outside``; a spoken one is, with a
        note, because the recogniser may have misheard.
        """
        history = conversation.questions()
        samplings = [
            self._sampling_of(conversation.checkpoints, side, sampling) for side in range(len(conversation.checkpoints))
        ]
        settings = {"as_recommended": isinstance(sampling, AsRecommended), "seed": sampling.seed}
        bound = not self.knows_more.issuperset(conversation.checkpoints)
        if asked.turn.text is not None and bound:
            outside = not self.senses.knows(asked.turn.text, history)
            asked = replace(asked, note=OUTSIDE_TYPED if outside and not even_if_outside else None)
            if asked.note:
                return Exchange(asked, (), settings)
        unread = sorted(self.only_hear.intersection(conversation.checkpoints))
        if asked.turn.text is not None and unread and asked.note is None:
            asked = replace(asked, note=ONLY_HEARS.format(" and ".join(unread)))
        sides = tuple(LiveSide() for _ in conversation.checkpoints)
        requests = [
            Request(
                conversation.dialogue(side, asked, as_typed=name in self.knows_more),
                name,
                samplings[side],
            )
            for side, name in enumerate(conversation.checkpoints)
        ]
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hearing") as hearing:
            heard = None
            if asked.turn.speech is not None and asked.heard is None and bound:
                heard = hearing.submit(self._hear, asked, history)
            yield Live(asked, sides)
            started = self.clock()
            stream = self.model.stream_many(requests, stop)
            try:
                while True:
                    try:
                        chunks = next(stream)
                    except StopIteration as end:
                        replies: list[Reply] = end.value
                        break
                    now = self.clock() - started
                    sides = tuple(
                        side if chunk is None else side.plus(chunk.text, chunk.waveform, now)
                        for side, chunk in zip(sides, chunks, strict=True)
                    )
                    asked, heard = _taken(asked, heard)
                    yield Live(asked, sides)
            finally:
                stream.close()
            asked = heard.result() if heard else asked
            yield Live(asked, sides, measuring=True)
        answers = []
        for name, side, reply, drawn in zip(conversation.checkpoints, sides, replies, samplings, strict=True):
            figures, delivery = self.senses.gauge(reply)
            if name in self.knows_more:
                figures, delivery = replace(figures, word_error_rate=None), None
            figures = replace(
                figures,
                first_audio_seconds=side.first_audio_seconds,
                real_time_factor=side.seconds / reply.waveform.seconds if reply.waveform.seconds else None,
            )
            stopped = stop.is_set() and not reply.finished
            answers.append(Answer(name, reply, figures, delivery, stopped, sampling=asdict(drawn)))
        return Exchange(asked, tuple(answers), settings)

    def _sampling_of(self, checkpoints: Sequence[str], side: int, wanted: Sampling | AsRecommended) -> Sampling:
        """One seed for both sides, except for a checkpoint beside itself: that would say the same twice."""
        name = checkpoints[side]
        seed = wanted.seed + checkpoints[:side].count(name)
        own = self.recommended.get(name)
        if isinstance(wanted, AsRecommended):
            own = own or Sampling()
            return replace(own, max_seconds=min(own.max_seconds, wanted.longest_seconds), seed=seed)
        if own is None:
            return replace(wanted, seed=seed)
        return replace(
            wanted,
            max_tokens=max(own.max_tokens, wanted.max_tokens),
            repetition_window=own.repetition_window,
            repetition_penalty=own.repetition_penalty,
            seed=seed,
        )

    def _hear(self, asked: Asked, history: Sequence[str]) -> Asked:
        heard = self.senses.hear(asked.turn.speech)
        if heard is None:
            return asked
        note = None
        if not heard.text or heard.fit < _CLEAR_FIT:
            note = UNHEARD
        elif not self.senses.knows(heard.text, history):
            note = OUTSIDE_SPOKEN
        return replace(asked, heard=heard.text, note=note)


def _taken(asked: Asked, heard: Future[Asked] | None) -> tuple[Asked, Future[Asked] | None]:
    return (heard.result(), None) if heard is not None and heard.done() else (asked, heard)
