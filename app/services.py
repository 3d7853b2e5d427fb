"""What pages are given: the checkpoints, the senses and the recordings, loaded once and shared by all visitors."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from app.recordings import Recordings
from app.senses import ClosedTalkSenses
from app.settings import Settings
from app.under_way import UnderWay

if TYPE_CHECKING:  # torch and transformers take seconds to import: the page is up before they are
    from app.answering import Answering
    from app.borrowing import Gpu
    from app.callers import Callers
    from app.host_key import HostKey
    from app.jobs.jobs import Jobs
    from app.limits import Limiter
    from app.line import Line
    from app.raters import Raters
    from app.standing import Listeners
    from app.store import Store
    from app.voting import Voting
    from wavalign.models.protocol import Sampling, SpokenDialogueModel
    from wavalign.models.registry import Registry

DEFAULT_CHECKPOINT = "closedtalk-base"
SHOWPIECE = "closedtalk-wavalign"
"""What stands beside the base at first, where it is there."""


class Services:
    """Everything a page needs. A checkpoint is loaded by whoever wants it first; others who want it wait."""

    def __init__(self, settings: Settings, registry: Registry | None = None) -> None:
        self.settings = settings
        self._registry = registry
        self.recordings = Recordings(settings.home / "recordings", settings.limits.recordings_hours)
        self.stops = Stops()
        self.under_way = UnderWay()
        self.loading_state: Literal["on first use", "loading", "loaded", "failed"] = "on first use"
        """Of what conversations open with."""
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
    def gpu(self) -> Gpu | None:
        """The GPU that this host lends, call by call; None where it has one of its own, or none."""
        if not self.settings.place.borrows_gpu:
            return None
        from app.borrowing import Gpu

        place = self.settings.place
        return Gpu(self.registry, place.reply_seconds, place.slice_seconds)

    @cached_property
    def senses(self) -> ClosedTalkSenses:
        return ClosedTalkSenses(self.settings)

    @cached_property
    def raters(self) -> Raters:
        from app.raters import Raters

        return Raters.from_home(self.settings.home, self.settings.secret)

    @cached_property
    def host_key(self) -> HostKey | None:
        """What makes a browser the host's; None where it takes an account, or nothing, to be the host."""
        from app.host_key import HostKey

        token = self.settings.host_token or self.made_token
        return HostKey(token, self.raters.key("host")) if token else None

    @cached_property
    def made_token(self) -> str | None:
        """A token made at this start, because other machines reach the app and nobody chose one."""
        from app.host_key import HostKey

        place = self.settings.place
        needed = place.beyond_loopback and not place.is_space and self.settings.host_token is None
        return HostKey.make() if needed else None

    @cached_property
    def callers(self) -> Callers:
        from app.callers import Callers

        return Callers(self.settings.place, self.host_key)

    @cached_property
    def limiter(self) -> Limiter:
        from app.limits import Limiter

        return Limiter(self.raters.address)

    @cached_property
    def line(self) -> Line:
        """Who waits for the models, of all pages together."""
        from app.line import Line

        limits = self.settings.limits
        return Line(limits.at_once, limits.waiting, limits.waiting_of_address)

    @cached_property
    def listeners(self) -> Listeners:
        from app.standing import Listeners

        return Listeners()

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
                if self.settings.place.ends_with_app:
                    self._go_on(store)
                self._jobs = Jobs(store, self.settings.home, self.settings.assets)
        return self._jobs

    def _go_on(self, store: Store) -> None:
        from app import logs
        from app.jobs.continuing import go_on
        from app.jobs.queue import Queue

        for job in go_on(Queue(store), self.settings.home):
            logs.say(f"{job.name} goes on from its last save.", event="job continued", job=job.id)

    def pause_jobs(self, patience: float) -> int:
        """Where every process ends with the app: jobs save and stop, and go on at the next start. Returns how many
        were still at it after ``patience`` seconds."""
        if not self.settings.place.ends_with_app or self._jobs is None:
            return 0
        from app.jobs.continuing import pause

        self._jobs.close()
        return pause(self._jobs.queue, self.settings.home, patience)

    def launchers(self) -> tuple[str, ...]:
        """Where training can run from here, the usual one first."""
        from app.jobs.launchers import LAUNCHERS, ZERO_GPU

        others = tuple(name for name in LAUNCHERS if name != ZERO_GPU)
        return (ZERO_GPU, *others) if self.settings.place.borrows_gpu else others

    def names(self) -> tuple[str, ...]:
        """Checkpoints that run here, and can be trained, the default first."""
        from wavalign.models.registry_layouts import REMOTE

        return tuple(name for name in self.all_names() if self._layout(name) != REMOTE)

    def all_names(self) -> tuple[str, ...]:
        """Checkpoints to talk to: those that run here, the default first, then the remote ones."""
        from wavalign.models.registry_layouts import REMOTE

        def place(name: str) -> tuple[bool, bool, str]:
            return name != DEFAULT_CHECKPOINT, self._layout(name) == REMOTE, name

        return tuple(sorted(self.registry.names(), key=place))

    def labels(self) -> list[tuple[str, str]]:
        """For pickers: what is shown, and the name. It is said of a remote one that another machine runs it."""
        return [(f"{name} (remote)" if self.is_remote(name) else name, name) for name in self.all_names()]

    def is_remote(self, name: str) -> bool:
        from wavalign.models.registry_layouts import REMOTE

        return self._layout(name) == REMOTE

    def knows_more(self, names: Sequence[str]) -> frozenset[str]:
        """Those whose world is not the small one of the embedded model: they are asked whatever is asked."""
        return frozenset(name for name in names if self._family(name) != "closedtalk")

    def only_hear(self, names: Sequence[str]) -> frozenset[str]:
        """Those that were not trained to answer what is typed."""
        return frozenset(name for name in names if not self._reads(name))

    def default_sampling(self, name: str | None) -> Sampling:
        """Where the page's sampling settings start: what the checkpoint recommends, or the library's own defaults."""
        from wavalign.models.protocol import CheckpointError, Sampling

        try:
            return self.registry.default_sampling(name) if name else Sampling()
        except CheckpointError:
            return Sampling()  # the page opens all the same; asking the checkpoint says what is wrong with it

    def is_loaded(self, names: Sequence[str]) -> bool:
        from wavalign.models.protocol import CheckpointError

        try:
            return all(self.registry.is_loaded(name) for name in names)
        except CheckpointError:
            return False

    def answering(self, names: Sequence[str]) -> Answering:
        """Loads what is needed and is not in memory.

        Raises:
            CheckpointError: one sentence about the checkpoint that cannot be used.
        """
        from app.answering import Answering
        from app.loaded import AttendedModel, load

        key = self._key(names)
        if key not in self._models or not self.is_loaded(key):
            with self._loading, _hushed():
                load(self.registry, key)
                if key not in self._models:
                    model = AttendedModel(self.registry, key, lambda: load(self.registry, key))
                    if self.gpu is not None and not all(self.is_remote(name) for name in key):
                        from app.borrowing import BorrowedModel

                        model = BorrowedModel(self.gpu, key, model.sample_rate)
                    self._models[key] = model
        recommended = {name: self.default_sampling(name) for name in key}
        return Answering(
            self._models[key],
            self.senses,
            knows_more=self.knows_more(key),
            only_hear=self.only_hear(key),
            recommended=recommended,
        )

    def loading(self, names: Sequence[str]) -> Generator[str, None, Answering]:
        """As ``answering``, and tells how far it is a few times a second.

        Raises:
            CheckpointError: one sentence about the checkpoint that cannot be used.
        """
        if self.is_loaded(names):
            return self.answering(names)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loading") as pool:
            answering = pool.submit(self.answering, names)
            while not answering.done():
                now = self.registry.board.all()
                yield " · ".join(each.sentence() for each in now) or f"Loading {' and '.join(dict.fromkeys(names))} …"
                wait([answering], timeout=0.3)
        return answering.result()

    def first_pair(self) -> tuple[str, ...]:
        """What a new conversation is held with: two checkpoints, or as many as there are."""
        names = self.all_names()
        if SHOWPIECE in names[1:]:
            return names[0], SHOWPIECE
        return tuple(names[:2])

    def preload(self, told: Callable[[str], None] = lambda sentence: None) -> threading.Thread:
        """Loads the default checkpoints and the senses in the background, so that the first reply comes at once."""

        def load() -> None:
            from wavalign.models.protocol import CheckpointError

            try:
                local = self.names()
                names = [name for name in self.first_pair() if name in local]
                if names:
                    self.answering(names)
                with _hushed():
                    self.senses.load()
                self.loading_state = "loaded"
            except CheckpointError as error:
                self.loading_state = "failed"
                told(str(error))
            finally:  # whatever else went wrong is in the log
                if self.loading_state == "loading":
                    self.loading_state = "failed"

        self.loading_state = "loading"
        thread = threading.Thread(target=load, name="preload", daemon=True)
        thread.start()
        return thread

    def device(self) -> str:
        """What the models run on, in words: the GPU's name and free memory, or the CPU."""
        if self.settings.place.borrows_gpu:
            return "A GPU for each question (ZeroGPU)"
        import torch

        if torch.cuda.is_available():
            free, _ = torch.cuda.mem_get_info()
            return f"{torch.cuda.get_device_name()} · {free / 2**30:.0f} GB free"
        cores = os.cpu_count() or 1
        return f"CPU · {cores} core{'s' if cores > 1 else ''}"

    def _layout(self, name: str) -> str | None:
        """None for a checkpoint that does not say what it is."""
        from wavalign.models.protocol import CheckpointError

        try:
            return self.registry.checkpoint(name).layout
        except CheckpointError:
            return None

    def _family(self, name: str) -> str | None:
        from wavalign.models.layout import InterleavedDescription
        from wavalign.models.protocol import CheckpointError

        try:
            checkpoint = self.registry.checkpoint(name)
            return InterleavedDescription.read(checkpoint.base).family
        except CheckpointError:  # another layout
            return None

    def _reads(self, name: str) -> bool:
        from pathlib import Path

        from wavalign.models.protocol import CheckpointError
        from wavalign.models.registry_layouts import REMOTE, layout_at

        try:
            checkpoint = self.registry.checkpoint(name)
            return checkpoint.layout == REMOTE or layout_at(checkpoint.base_name, Path(checkpoint.base)).reads
        except CheckpointError:  # asking it says what is wrong with it
            return True

    @staticmethod
    def _key(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(set(names)))


class Stops:
    """One stop signal a visitor. Stopped by its owner, a reply ends and is kept; forgotten, it is not."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[threading.Event, tuple[str, ...]]] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: str, asked: tuple[str, ...] = ()) -> threading.Event:
        """A fresh signal for a question to these checkpoints; one that is still running is told to stop."""
        fresh = threading.Event()
        with self._lock:
            if visitor in self._last:
                self._last[visitor][0].set()
            self._last[visitor] = fresh, asked
        return fresh

    def last_asked(self, visitor: str) -> tuple[str, ...]:
        """The checkpoints that the visitor's last question went to; none where it is forgotten."""
        with self._lock:
            return self._last[visitor][1] if visitor in self._last else ()

    def is_current(self, visitor: str, event: threading.Event) -> bool:
        """Whether nothing newer was begun, and nothing was ended from outside, since ``event`` was handed out."""
        with self._lock:
            return visitor in self._last and self._last[visitor][0] is event

    def stop(self, visitor: str) -> None:
        with self._lock:
            last = self._last.get(visitor)
        if last is not None:
            last[0].set()

    def forget(self, visitor: str) -> None:
        """Stops, and drops the signal: nothing of this visitor is wanted any more."""
        with self._lock:
            last = self._last.pop(visitor, None)
        if last is not None:
            last[0].set()


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what libraries print while they load: the terminal keeps the one line with the address."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
