"""What pages are given: the checkpoints, the senses and the recordings, loaded once and shared by all visitors."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from typing import TYPE_CHECKING

from app.recordings import Recordings
from app.senses import ClosedTalkSenses
from app.settings import Settings

if TYPE_CHECKING:  # torch and transformers take seconds to import: the page is up before they are
    from app.answering import Answering
    from app.jobs.jobs import Jobs
    from app.raters import Raters
    from app.voting import Voting
    from wavalign.models.protocol import Sampling, SpokenDialogueModel
    from wavalign.models.registry import Registry

DEFAULT_CHECKPOINT = "closedtalk-base"


class Services:
    """Everything a page needs. Loading is done once per set of checkpoints, by whoever comes first; others wait."""

    def __init__(self, settings: Settings, registry: Registry | None = None) -> None:
        self.settings = settings
        self._registry = registry
        self.recordings = Recordings(settings.home / "recordings", settings.limits.recordings_hours)
        self.stops = Stops()
        self._loading = threading.Lock()
        self._opening = threading.Lock()
        self._voting: Voting | None = None
        self._opening_jobs = threading.Lock()
        self._jobs: Jobs | None = None
        self._models: dict[tuple[str, ...], SpokenDialogueModel] = {}

    @cached_property
    def registry(self) -> Registry:
        from wavalign.models.registry import Registry

        return self._registry or Registry(self.settings.assets, self.settings.home)

    @cached_property
    def senses(self) -> ClosedTalkSenses:
        return ClosedTalkSenses(self.settings)

    @cached_property
    def raters(self) -> Raters:
        from app.raters import Raters

        return Raters.from_home(self.settings.home, self.settings.secret)

    @cached_property
    def voting(self) -> Voting:
        """The arena, its database opened (and brought up to date) on first use.

        Raises:
            StoreError: one sentence, when the database cannot be used.
        """
        from app.speakers import LoadedSpeakers
        from app.staging import Staging
        from app.store import open_store
        from app.voting import Voting

        with self._opening:
            if self._voting is None:
                store = open_store(self.settings.home, self.settings.database)
                self._voting = Voting(Staging(store, LoadedSpeakers(self)))
                self._voting.sweep()
        return self._voting

    @cached_property
    def jobs(self) -> Jobs:
        """Training jobs, their database opened on first use; ``watch`` looks after them.

        Raises:
            StoreError: one sentence, when the database cannot be used.
        """
        from app.jobs.jobs import Jobs
        from app.store import open_store

        with self._opening_jobs:
            if self._jobs is None:
                store = open_store(self.settings.home, self.settings.database)
                self._jobs = Jobs(store, self.settings.home, self.settings.assets)
        return self._jobs

    def names(self) -> tuple[str, ...]:
        """Checkpoints to choose from, the default first."""
        return tuple(sorted(self.registry.names(), key=lambda name: (name != DEFAULT_CHECKPOINT, name)))

    def default_sampling(self, name: str | None) -> Sampling:
        """Where the page's sampling settings start: what the checkpoint recommends, or the library's own defaults."""
        from wavalign.models.protocol import CheckpointError, Sampling

        try:
            return self.registry.default_sampling(name) if name else Sampling()
        except CheckpointError:
            return Sampling()  # the page opens all the same; asking the checkpoint says what is wrong with it

    def is_loaded(self, names: Sequence[str]) -> bool:
        return self._key(names) in self._models

    def answering(self, names: Sequence[str]) -> Answering:
        """Loads what is needed, once.

        Raises:
            CheckpointError: one sentence about the checkpoint that cannot be used.
        """
        from app.answering import Answering

        key = self._key(names)
        with self._loading:
            if key not in self._models:
                with _hushed():
                    self._models[key] = self.registry.load(list(key))
            return Answering(self._models[key], self.senses)

    def preload(self, told: Callable[[str], None] = lambda sentence: None) -> threading.Thread:
        """Loads the default checkpoints and the senses in the background, so that the first reply comes at once."""

        def load() -> None:
            from wavalign.models.protocol import CheckpointError

            try:
                names = self.names()
                if names:
                    self.answering(names[:2])
                with _hushed():
                    self.senses.load()
            except CheckpointError as error:
                told(str(error))

        thread = threading.Thread(target=load, name="preload", daemon=True)
        thread.start()
        return thread

    def device(self) -> str:
        """What the models run on, in words: the GPU's name and free memory, or the CPU."""
        import torch

        if torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info()
            return f"{torch.cuda.get_device_name()} · {free / 2**30:.0f} GB free"
        cores = os.cpu_count() or 1
        return f"CPU · {cores} core{'s' if cores > 1 else ''}"

    @staticmethod
    def _key(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(set(names)))


class Stops:
    """One stop signal a visitor. Stopped by its owner, a reply ends and is kept; forgotten, it is not."""

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: str) -> threading.Event:
        """A fresh signal; one that is still running is told to stop."""
        with self._lock:
            if visitor in self._events:
                self._events[visitor].set()
            self._events[visitor] = threading.Event()
            return self._events[visitor]

    def is_current(self, visitor: str, event: threading.Event) -> bool:
        """Whether nothing newer was begun, and nothing was ended from outside, since ``event`` was handed out."""
        with self._lock:
            return self._events.get(visitor) is event

    def stop(self, visitor: str) -> None:
        with self._lock:
            event = self._events.get(visitor)
        if event is not None:
            event.set()

    def forget(self, visitor: str) -> None:
        """Stops, and drops the signal: nothing of this visitor is wanted any more."""
        with self._lock:
            event = self._events.pop(visitor, None)
        if event is not None:
            event.set()


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what libraries print while they load: the terminal keeps the one line with the address."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
