"""A GPU that is lent for one call at a time (ZeroGPU): what runs there, and what crosses over.

A function that ``spaces.GPU`` decorates runs in a process forked from this one: it finds the models that were loaded
here, gets its arguments pickled and gives its results back pickled. Outside of it there is no GPU. Of an exception
only its class would come back, so known ones travel as values.
"""

from __future__ import annotations

import html
import importlib
import multiprocessing
import os
import queue
import re
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from app import lending
from app.place import CALL_SECONDS
from wavalign.models.protocol import CheckpointError, GenerationError, SamplingError

if TYPE_CHECKING:
    from wavalign.dialogue import Dialogue, Reply, ReplyChunk
    from wavalign.models.protocol import Request, Sampling
    from wavalign.models.registry import Registry

Chunks = list["ReplyChunk | None"]
_KNOWN: dict[str, type[Exception]] = {each.__name__: each for each in (CheckpointError, GenerationError, SamplingError)}
_SLOTS = 64
"""Stop signals that were made before any worker was: more questions than that are never answered at one time."""


class BorrowError(GenerationError):
    """No GPU was lent, or it was taken back; the message is one sentence for the person who asked."""

    def __init__(self, sentence: str, *, aborted: bool = False) -> None:
        super().__init__(sentence)
        self.aborted = aborted
        """Whether work had begun and was cut off."""


class Gpu:
    """Made once, before the app is served: what is decorated later is not known to the host.

    ``registry`` holds the models; ``seconds`` is how long the replies to one question may take, ``slice_seconds`` how
    long one slice of training.
    """

    def __init__(self, registry: Registry, seconds: int, slice_seconds: int = CALL_SECONDS) -> None:
        import spaces

        global _registry
        _registry = registry
        self.seconds, self.slice_seconds = seconds, slice_seconds
        context = multiprocessing.get_context("fork")
        _stops[:] = [context.Event() for _ in range(_SLOTS)]
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(_SLOTS):
            self._free.put(slot)
        self._replies = spaces.GPU(_replies, duration=_seconds_of_replies)
        self._work = spaces.GPU(_work, duration=_seconds_of_work)
        os.register_at_fork(after_in_child=_fresh_locks)
        lending.lend(self)

    def stream_many(
        self, names: Sequence[str], requests: Sequence[Request], stop: threading.Event | None = None
    ) -> Generator[Chunks, None, list[Reply]]:
        """All replies to one question in one call; see ``SpokenDialogueModel``.

        Raises:
            BorrowError: when no GPU was lent.
            CheckpointError, GenerationError, SamplingError: as raised there.
        """
        with (
            self._signal(stop) as slot,
            _lent(),
            closing(self._replies(tuple(names), list(requests), slot, self.seconds)) as coming,
        ):
            last: tuple[str, Any] | None = None
            for kind, value in coming:  # to its very end: a worker that is left earlier is not used again
                if kind == "chunks":
                    yield value
                else:
                    last = kind, value
        if last is not None:
            if last[0] == "replies":
                return last[1]
            raise _KNOWN[last[0]](last[1])
        raise BorrowError("The GPU was taken back before the replies were whole. Ask again.", aborted=True)

    def work(self, target: str, arguments: Sequence[Any], seconds: int) -> Any:
        """Calls ``module:function`` there, for at most ``seconds``; returns what it returns.

        Raises:
            BorrowError: when no GPU was lent, or the call was cut off.
            CheckpointError, GenerationError, SamplingError: as raised there.
        """
        with _lent():
            kind, value = self._work(target, tuple(arguments), seconds)
        if kind != "value":
            raise _KNOWN[kind](value)
        return value

    @contextmanager
    def _signal(self, stop: threading.Event | None) -> Iterator[int]:
        """A stop signal that the worker sees, set when ``stop`` is."""
        try:
            slot = self._free.get(timeout=self.seconds)
        except queue.Empty:
            raise BorrowError("Too many questions are being answered just now. Ask again in a moment.") from None
        shared, over = _stops[slot], threading.Event()
        shared.clear()

        def pass_on() -> None:
            while not over.wait(0.1):
                if stop.is_set():
                    shared.set()
                    return

        watcher = threading.Thread(target=pass_on, name="stop", daemon=True) if stop is not None else None
        if watcher is not None:
            watcher.start()
        try:
            yield slot
        finally:
            over.set()
            shared.set()  # a worker that is still at it need not go on
            self._free.put(slot)


class BorrowedModel:
    """A ``SpokenDialogueModel`` whose every call borrows the GPU once, for all replies together."""

    def __init__(self, gpu: Gpu, names: Sequence[str], sample_rate: int) -> None:
        self._gpu = gpu
        self.names = tuple(dict.fromkeys(names))
        self.sample_rate = sample_rate

    def reply(
        self,
        dialogue: Dialogue,
        sampling: Sampling | None = None,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[ReplyChunk, None, Reply]:
        from wavalign.models.protocol import Request, Sampling

        request = Request(dialogue, checkpoint or self.names[0], sampling or Sampling())
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
    ) -> Generator[Chunks, None, list[Reply]]:
        return (yield from self._gpu.stream_many(self.names, requests, stop))

    def reply_many(self, requests: Sequence[Request], stop: threading.Event | None = None) -> list[Reply]:
        stream = self.stream_many(requests, stop)
        while True:
            try:
                next(stream)
            except StopIteration as end:
                return end.value


_registry: Registry | None = None
_stops: list[Any] = []


def _replies(names: tuple[str, ...], requests: list[Request], slot: int, seconds: int) -> Iterator[tuple[str, Any]]:
    """Runs on the lent GPU. What this process does not hold yet is loaded here."""
    from app.loaded import AttendedModel, load

    stop = threading.Event()
    shared = _stops[slot]
    over = threading.Event()

    def hear() -> None:
        while not over.wait(0.05):
            if shared.is_set():
                stop.set()
                return

    threading.Thread(target=hear, name="stop", daemon=True).start()
    try:
        model = AttendedModel(_registry, names, lambda: load(_registry, names))
        with closing(model.stream_many(requests, stop)) as stream:
            while True:
                try:
                    yield "chunks", next(stream)
                except StopIteration as end:
                    yield "replies", end.value
                    return
    except tuple(_KNOWN.values()) as error:
        yield _kind(error), str(error)
    finally:
        over.set()


def _work(target: str, arguments: tuple[Any, ...], seconds: int) -> tuple[str, Any]:
    """Runs on the lent GPU."""
    module, _, function = target.partition(":")
    try:
        return "value", getattr(importlib.import_module(module), function)(*arguments)
    except tuple(_KNOWN.values()) as error:
        return _kind(error), str(error)


def _seconds_of_replies(names: tuple[str, ...], requests: list[Request], slot: int, seconds: int) -> int:
    return seconds


def _seconds_of_work(target: str, arguments: tuple[Any, ...], seconds: int) -> int:
    return seconds


def _kind(error: Exception) -> str:
    return next(name for name, known in _KNOWN.items() if isinstance(error, known))


@contextmanager
def _lent() -> Iterator[None]:
    """What the host says when it lends nothing, as a sentence."""
    import gradio as gr

    try:
        yield
    except gr.Error as error:
        said = html.unescape(re.sub(r"<[^>]+>", "", str(error.message))).strip().rstrip(".")
        aborted = "worker" in str(getattr(error, "title", ""))
        what = "The GPU was taken back" if aborted else "No GPU can be borrowed just now"
        raise BorrowError(f"{what}: {said}.", aborted=aborted) from error


def _fresh_locks() -> None:
    """In a forked process, whoever held a lock is not there to let go of it."""
    if _registry is not None:
        _registry.release_locks()
