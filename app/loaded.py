"""The models that answer visitors: loaded when they are wanted, kept from being put away while they answer.

Memory that runs out while one answers ends that reply with a sentence, and everything else goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from wavalign.dialogue import Dialogue, Reply, ReplyChunk

if TYPE_CHECKING:  # torch takes seconds to import: the page is up before it is
    from wavalign.models.protocol import Request, Sampling, SpokenDialogueModel
    from wavalign.models.registry import Registry

RAN_OUT = (
    "Memory ran out while {names} answered, so what was loaded was put away. Ask again for a shorter reply, or choose "
    "a smaller checkpoint."
)


def load(registry: Registry, names: Sequence[str]) -> SpokenDialogueModel:
    """One model over these checkpoints, on however many bases and services.

    Raises:
        CheckpointError: one sentence about the first that cannot be used.
    """
    from wavalign.models.together import TogetherModel

    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(registry.checkpoint(name).base_name, []).append(name)
    if len(groups) < 2:
        return registry.load(list(names))
    models: list[SpokenDialogueModel] = []

    def rest(left: list[list[str]]) -> None:
        """The next group, while those before are in use: making room for it must not put them away."""
        if left:
            models.append(registry.load(left[0]))
            with registry.using(left[0]):
                rest(left[1:])

    rest(list(groups.values()))
    return TogetherModel(models)


class AttendedModel:
    """A ``SpokenDialogueModel`` that is opened anew for every call, so that nothing is held that was put away."""

    def __init__(self, registry: Registry, names: Sequence[str], opened: Callable[[], SpokenDialogueModel]) -> None:
        self._registry, self._open = registry, opened
        self.names = tuple(dict.fromkeys(names))
        self.sample_rate = opened().sample_rate

    def reply(
        self,
        dialogue: Dialogue,
        sampling: Sampling | None = None,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[ReplyChunk, None, Reply]:
        with self._attended():
            return (yield from self._open().reply(dialogue, sampling, checkpoint=checkpoint, stop=stop))

    def stream_many(
        self, requests: Sequence[Request], stop: threading.Event | None = None
    ) -> Generator[list[ReplyChunk | None], None, list[Reply]]:
        with self._attended(), closing(self._open().stream_many(requests, stop)) as stream:
            return (yield from stream)

    def reply_many(self, requests: Sequence[Request], stop: threading.Event | None = None) -> list[Reply]:
        with self._attended():
            return self._open().reply_many(requests, stop)

    @contextmanager
    def _attended(self) -> Iterator[None]:
        """Raises:
        GenerationError: when memory ran out.
        """
        from wavalign.models import memory
        from wavalign.models.protocol import GenerationError

        ran_out = False
        with self._registry.using(self.names):
            try:
                yield
            except Exception as error:
                if not memory.is_out_of_memory(error):
                    raise
                ran_out = True
        if ran_out:  # outside of the handler, whose traceback holds the tensors
            for name in {self._registry.checkpoint(name).base_name for name in self.names}:
                self._registry.bases.drop(name)
            self._registry.bases.drop_idle()
            memory.give_back()
            raise GenerationError(RAN_OUT.format(names=" and ".join(self.names)))
