"""Checkpoints that do not share a base, behind one model: each base (or service) is asked once, all at one time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from wavalign.dialogue import Dialogue, Reply, ReplyChunk
from wavalign.models.gathering import gathered
from wavalign.models.protocol import GenerationError, Request, Sampling, SpokenDialogueModel

Chunks = list[ReplyChunk | None]


class TogetherModel:
    """A ``SpokenDialogueModel`` over several; every checkpoint belongs to one of them.

    Replies keep the sample rate of the model that made them: there is no one ``sample_rate``; it is the highest.
    """

    def __init__(self, models: Sequence[SpokenDialogueModel]) -> None:
        self._models = tuple(models)
        self.names = tuple(name for model in models for name in model.names)
        self.sample_rate = max(model.sample_rate for model in models)

    def reply(
        self,
        dialogue: Dialogue,
        sampling: Sampling | None = None,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[ReplyChunk, None, Reply]:
        """Streams one reply and returns it whole; see ``SpokenDialogueModel``."""
        name = checkpoint or self.names[0]
        return (yield from self._owner(name).reply(dialogue, sampling, checkpoint=name, stop=stop))

    def stream_many(
        self, requests: Sequence[Request], stop: threading.Event | None = None
    ) -> Generator[list[ReplyChunk | None], None, list[Reply]]:
        """Streams several replies, one call a model; see ``SpokenDialogueModel``.

        Where one fails, the others end.
        """
        places: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault(self._models.index(self._owner(request.checkpoint)), []).append(place)
        ending = threading.Event()  # of this call: one side's failure must not stop another visitor
        tasks = [
            self._task(self._models[model], [requests[place] for place in mine], ending)
            for model, mine in places.items()
        ]
        mine = list(places.values())
        try:
            with closing(gathered(tasks, "side")) as coming:
                while True:
                    try:
                        told = next(coming)
                    except StopIteration as end:
                        parts: list[list[Reply]] = end.value
                        break
                    if stop is not None and stop.is_set():
                        ending.set()
                    if told is None:
                        continue
                    number, chunks = told
                    spread: Chunks = [None] * len(requests)
                    for place, chunk in zip(mine[number], chunks, strict=True):
                        spread[place] = chunk
                    yield spread
        finally:
            ending.set()
        replies = {
            place: reply
            for places, part in zip(mine, parts, strict=True)
            for place, reply in zip(places, part, strict=True)
        }
        return [replies[place] for place in range(len(requests))]

    def reply_many(self, requests: Sequence[Request], stop: threading.Event | None = None) -> list[Reply]:
        """Whole replies; none is handed over before all are there."""
        stream = self.stream_many(requests, stop)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                return end.value

    def _owner(self, checkpoint: str) -> SpokenDialogueModel:
        for model in self._models:
            if checkpoint in model.names:
                return model
        raise GenerationError(f'Checkpoint "{checkpoint}" is not loaded; loaded are: {", ".join(self.names)}.')

    @staticmethod
    def _task(
        model: SpokenDialogueModel, requests: list[Request], ending: threading.Event
    ) -> Callable[[Callable[[Chunks], None]], list[Reply]]:
        def run(tell: Callable[[Chunks], None]) -> list[Reply]:
            with closing(model.stream_many(requests, ending)) as stream:
                while True:
                    try:
                        tell(next(stream))
                    except StopIteration as end:
                        return end.value

        return run
