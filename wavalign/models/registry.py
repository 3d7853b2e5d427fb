"""The checkpoints there are, and loading them: a base once, its adapters onto it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wavalign.models.protocol import Checkpoint, CheckpointError, Sampling
from wavalign.models.registry_code import may_run_code_in
from wavalign.models.registry_entries import Entries, Entry, is_hub_id
from wavalign.models.registry_folders import (
    config_in,
    described_in,
    is_base,
    is_marked,
    layout_in,
    provenance_of,
    read_json,
    stamp_of,
)
from wavalign.models.registry_layouts import REMOTE, brings_code
from wavalign.models.registry_progress import Board, Tell

ADAPTER_FILE = "adapter_config.json"
HOME_FOLDER = "checkpoints"
RUNS_FOLDER, RUN_RESULT = "runs", "adapter"
UNKNOWN = "unknown"
"""The layout of a base from the hub that was neither looked at nor downloaded."""
_NOT_HERE = "(none; build the embedded one or add a folder)"


class Registry:
    """Checkpoints are folders in ``assets_dir`` and in ``checkpoints/`` of ``home``; a folder's name is its name.

    What a run of post-training made, ``runs/<name>/adapter`` of ``home``, is a checkpoint with the run's name; it meets
    others in blind battles only once it is promoted. What
    ``checkpoints.yaml`` lists, in both places, are checkpoints too: from the hub, from elsewhere, or remote.

    A base is a folder of a known layout; an adapter is a plain PEFT folder whose ``base_model_name_or_path`` ends in
    the name of its base. Loaded bases are kept and shared, and put away when others need the room; ``budget``: bytes
    that bases on one device may take, None: WAVALIGN_MODEL_MEMORY, else what the device has.
    """

    def __init__(self, assets_dir: str | Path, home: str | Path | None = None, budget: int | None = None) -> None:
        self.places = [Path(assets_dir)] + ([Path(home) / HOME_FOLDER] if home else [])
        self.runs = Path(home) / RUNS_FOLDER if home else None
        self.entries = Entries(Path(assets_dir), Path(home) if home else None)
        self.board = Board()
        self._budget = budget
        self._bases: Any = None
        self._remotes: dict[str, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    @property
    def bases(self) -> Any:
        """What is in memory, a ``LoadedBases``."""
        if self._bases is None:
            from wavalign.models.registry_bases import LoadedBases, budget_of  # torch takes seconds to import

            self._bases = LoadedBases(budget_of() if self._budget is None else self._budget)
        return self._bases

    def names(self) -> tuple[str, ...]:
        """Names of all checkpoints: bases, adapters, remote ones, each group sorted. Broken ones are listed too:
        loading says why."""
        ranks: dict[str, int] = {}
        folders = [(f.name, f) for place in self.places if place.is_dir() for f in sorted(place.iterdir())]
        if self.runs and self.runs.is_dir():
            folders += [(run.name, run / RUN_RESULT) for run in sorted(self.runs.iterdir())]
        for name, folder in folders:
            is_adapter = (folder / ADAPTER_FILE).is_file()
            if is_adapter or is_base(folder):
                ranks.setdefault(name, 0 if not is_adapter or is_marked(folder) else 1)
        for name, entry in self._listed().items():
            ranks.setdefault(name, 2 if entry.remote else 1 if entry.adapter else 0)
        return tuple(sorted(ranks, key=lambda name: (ranks[name], name)))

    def trouble(self) -> str | None:
        """What is wrong with ``checkpoints.yaml``; its entries are then left out."""
        try:
            self.entries.all()
        except CheckpointError as error:
            return str(error)
        return None

    def checkpoint(self, name: str) -> Checkpoint:
        """What is known of a checkpoint without loading it.

        Raises:
            CheckpointError: when there is no such checkpoint, or it does not say what it is.
        """
        folder = self._folder(name)
        if folder is None:
            return self._of_entry(name, self._listed()[name])
        if (folder / ADAPTER_FILE).is_file():
            base = self.checkpoint(self._base_of(name, folder))
            promoted = self.runs is None or self.runs not in folder.parents
            return _adapted(name, base, folder, arena=promoted)
        return Checkpoint(name, layout_in(name, folder).name, folder, name, None, provenance_of(folder))

    def entry(self, name: str) -> Entry | None:
        """What ``checkpoints.yaml`` says of it; None for folders in place."""
        return None if self.place(name) else self._listed().get(name)

    def default_sampling(self, name: str) -> Sampling:
        """What the checkpoint's layout description recommends.

        Raises:
            CheckpointError: when there is no such checkpoint, it is not here yet, or its description is wrong.
        """
        checkpoint = self.checkpoint(name)
        if checkpoint.layout == REMOTE:
            from wavalign.models.remote import DEFAULT_SAMPLING

            return DEFAULT_SAMPLING
        folder = _here(checkpoint)
        return layout_in(name, folder).opened().default_sampling(folder)

    def load(self, names: Sequence[str]) -> Any:
        """A model over these checkpoints, which share one base; a base that is loaded already is not loaded again.

        Returns a ``SpokenDialogueModel``; where the layout can be trained also a ``TrainablePolicy`` (for the
        interleaved layout an ``InterleavedModel``).

        Raises:
            CheckpointError: one sentence about the first checkpoint that cannot be used.
        """
        checkpoints = [self.checkpoint(name) for name in dict.fromkeys(names)]
        if not checkpoints:
            raise CheckpointError("No checkpoint was named. Choose one.")
        first = checkpoints[0]
        for other in checkpoints[1:]:
            if other.base_name != first.base_name:
                raise CheckpointError(
                    f'"{first.name}" and "{other.name}" have different bases ("{first.base_name}" and '
                    f'"{other.base_name}") and cannot answer together. Choose checkpoints of one base.'
                )
        if first.layout == REMOTE:
            return self._remote(first.name)
        ready = self._ready(checkpoints)  # without the lock: others may be loading for minutes
        if ready is None:
            with self._lock:
                ready = self._loaded(checkpoints)
        loaded, adapters = ready
        return layout_in(first.base_name, loaded.base_folder).opened().open_model(loaded.base, adapters)

    def is_loaded(self, name: str) -> bool:
        """Whether asking it needs no loading."""
        checkpoint = self.checkpoint(name)
        if checkpoint.layout == REMOTE:
            return True
        loaded = next((each for each in self.bases.all() if each.name == checkpoint.base_name), None)
        return loaded is not None and (checkpoint.adapter is None or name in loaded.adapters)

    def is_ready(self, name: str) -> bool:
        """Whether it can be asked without a download and without a key that is missing."""
        checkpoint = self.checkpoint(name)
        if checkpoint.layout != REMOTE:
            return isinstance(checkpoint.base, Path) and not isinstance(checkpoint.adapter, str)
        try:
            self._remote(name)
        except CheckpointError:
            return False
        return True

    @contextmanager
    def using(self, names: Sequence[str]) -> Iterator[None]:
        """While open, the bases of these checkpoints are not put away to make room for others."""
        with self.bases.using([self.checkpoint(name).base_name for name in names]):
            yield

    def unload(self, base_name: str) -> None:
        """Puts a base and all adapters on it out of memory.

        Raises:
            CheckpointError: when it answers right now.
        """
        found = next((each for each in self.bases.all() if each.name == base_name), None)
        if found is not None and self.bases.users(base_name):
            raise CheckpointError(f'"{base_name}" is answering right now. Try again in a moment.')
        self.bases.drop(base_name)

    def remove(self, name: str) -> str:
        """Takes a checkpoint that was added or promoted off the list, for good; says what became of its files.

        Raises:
            CheckpointError: when others stand on it, it answers right now, or it is not the home's own.
        """
        checkpoint = self.checkpoint(name)
        others = [each for each in self.names() if each != name and self._base_name(each) == name]
        if others:
            raise CheckpointError(f'"{others[0]}" stands on "{name}": remove that first.')
        place = self.place(name)
        if place is not None and (len(self.places) < 2 or place.parent != self.places[1]):
            where = "ships with the app" if place.parent == self.places[0] else "is a run's: delete the run on Train"
            raise CheckpointError(f'"{name}" {where}, and cannot be removed here.')
        if place is None and name not in self.entries.own():
            raise CheckpointError(f'"{name}" ships with the app, and cannot be removed here.')
        if checkpoint.layout != REMOTE:
            self.unload(checkpoint.base_name)
        if place is None:
            self.entries.remove(name)
            self._remotes.pop(name, None)
            return (
                f"{name} is off the list; its files stay where they are."
                if checkpoint.layout != REMOTE
                else (f"{name} is off the list.")
            )
        if place.is_symlink():
            place.unlink()
            return f"{name} is off the list; the folder it pointed to stays."
        leaving = place.with_name(f".removed-{name}")
        shutil.rmtree(leaving, ignore_errors=True)
        place.rename(leaving)  # gone at once, whatever becomes of the rest
        shutil.rmtree(leaving, ignore_errors=True)
        return f"{name} is deleted."

    def forget(self) -> None:
        """Drops the loaded bases; models that are in use keep theirs until they are dropped too."""
        with self._lock:
            self.bases.clear()
            self._remotes.clear()

    def release_locks(self) -> None:
        """For a process that was just forked: the threads that may hold the locks are not in it."""
        self._lock = threading.Lock()
        if self._bases is not None:
            self._bases.release_locks()

    def _ready(self, checkpoints: Sequence[Checkpoint]) -> tuple[Any, dict[str, str | None]] | None:
        """The base and the names of the adapters on it, when all of it is in memory; None otherwise."""
        loaded = self.bases.find(checkpoints[0].base_name)
        if loaded is None:
            return None
        adapters: dict[str, str | None] = {}
        for each in checkpoints:
            stamp, adapter = loaded.adapters.get(each.name, (None, None))
            if each.adapter is not None and (adapter is None or stamp != stamp_of(each)):
                return None
            adapters[each.name] = None if each.adapter is None else adapter
        return loaded, adapters

    def _loaded(self, checkpoints: Sequence[Checkpoint]) -> tuple[Any, dict[str, str | None]]:
        """As ``_ready``, after loading what is not here. An adapter that is not the one of that name any more, and
        with it its base, is put away first."""
        first = checkpoints[0]
        found = self.bases.find(first.base_name)
        stale = found is not None and any(
            each.name in found.adapters and found.adapters[each.name][0] != stamp_of(each) for each in checkpoints
        )
        if stale:
            self.bases.drop(first.base_name)
        loaded = self.bases.find(first.base_name) or self._load_base(first)
        loader = layout_in(first.base_name, loaded.base_folder).opened()
        return loaded, {each.name: self._attach(loader, loaded, each) for each in checkpoints}

    def _load_base(self, first: Checkpoint) -> Any:
        """The base of ``first``, downloaded if need be, into memory, where room was made for it."""
        from wavalign.models import registry_opening

        with self.board.loading(first.base_name) as tell:
            base = self.checkpoint(first.base_name)
            folder = registry_opening.fetched(base.base, base.revision, tell)
            entry = self.entry(base.name)
            source = entry.source if entry is not None else str(folder)
            layout = layout_in(base.name, folder)
            allowed = may_run_code_in(folder, source)
            if brings_code(layout, config_in(folder), described_in(folder)) and not allowed:
                raise CheckpointError(
                    f'"{base.name}" brings Python code of its own, which runs only when the host allows it: start the '
                    f"app with WAVALIGN_TRUST_REMOTE_CODE={source}, after reading that code."
                )
            return registry_opening.opened(self.bases, base, folder, layout, allowed, tell)

    def _attach(self, loader: Any, loaded: Any, checkpoint: Checkpoint) -> str | None:
        from wavalign.models import registry_opening

        if checkpoint.adapter is None:
            return None
        with self.board.loading(checkpoint.name) as tell:
            folder = self._adapter_folder(checkpoint, tell)
            adapter = registry_opening.attached(loader, loaded, checkpoint.name, folder)
        loaded.adapters[checkpoint.name] = (stamp_of(self.checkpoint(checkpoint.name)) or ("", 0, 0), adapter)
        self.bases.measured(loaded.name)
        return adapter

    def _adapter_folder(self, checkpoint: Checkpoint, tell: Tell) -> Path:
        from wavalign.models import registry_opening

        entry = self.entry(checkpoint.name)
        return registry_opening.fetched(checkpoint.adapter, entry.adapter_revision if entry else None, tell)

    def _remote(self, name: str) -> Any:
        from wavalign.models.remote import RemoteModel

        description = self._listed()[name].remote
        known = self._remotes.get(name)
        if known is None or known[0] != description:
            known = self._remotes[name] = (description, RemoteModel(name, description))
        return known[1]

    def _of_entry(self, name: str, entry: Entry) -> Checkpoint:
        if entry.remote is not None:
            told = {"service": entry.remote.host, "model": entry.remote.model}
            address = f"{entry.remote.url}#{entry.remote.model}"
            return Checkpoint(name, REMOTE, address, name, None, told, arena=entry.arena)
        if entry.adapter is not None:
            under = self._listed().get(entry.base)
            if self.place(entry.base) is None and under is None:
                raise CheckpointError(
                    f'Adapter "{name}" is for the base "{entry.base}", which is not among the checkpoints. Add that '
                    "base, or take the adapter off the list."
                )
            on_another = self.place(entry.base) is None and under.adapter is not None
            base = None if on_another else self.checkpoint(entry.base)
            if base is None or base.adapter is not None or base.layout == REMOTE:
                raise CheckpointError(f'Adapter "{name}" is for "{entry.base}", which is not a base. Choose a base.')
            return _adapted(name, base, _found(entry.adapter, entry.adapter_revision), entry.arena)
        place = _found(entry.source, entry.revision)
        told = {"source": entry.source} | ({"revision": entry.revision} if entry.revision else {})
        layout = entry.layout or UNKNOWN
        if isinstance(place, Path):
            told = {**provenance_of(place), **told}
            layout = layout_in(name, place).name
        how = {"dtype": entry.dtype, "device": entry.device, "revision": entry.revision, "arena": entry.arena}
        return Checkpoint(name, layout, place, name, None, told, **how)

    def _listed(self) -> dict[str, Entry]:
        try:
            return self.entries.all()
        except CheckpointError:
            return {}  # ``trouble`` says it

    def place(self, name: str) -> Path | None:
        """The folder in place of that name; None for entries, and where there is none."""
        if not name or Path(name).name != name:
            return None
        for place in self.places:
            if (place / name).is_dir():
                return place / name
        if self.runs and (self.runs / name / RUN_RESULT).is_dir():
            return self.runs / name / RUN_RESULT
        return None

    def _folder(self, name: str) -> Path | None:
        """The folder in place, or None for an entry."""
        if not name or Path(name).name != name:
            raise CheckpointError(f'"{name}" is not a checkpoint\'s name. The names are: {self._known()}.')
        place = self.place(name)
        if place is None and name not in self._listed():
            raise CheckpointError(f'There is no checkpoint "{name}". The names are: {self._known()}.')
        return place

    def _known(self) -> str:
        return ", ".join(self.names()) or _NOT_HERE

    def _base_name(self, name: str) -> str | None:
        try:
            return self.checkpoint(name).base_name
        except CheckpointError:
            return None

    def _base_of(self, name: str, folder: Path) -> str:
        config = read_json(name, folder / ADAPTER_FILE)
        told = config.get("base_model_name_or_path")
        if not isinstance(told, str) or not told:
            raise CheckpointError(f'Adapter "{name}" does not say which base it is for (base_model_name_or_path).')
        base_name = self.base_called(told)
        if base_name is None:
            raise CheckpointError(
                f'Adapter "{name}" is for the base "{Path(told).name}", which is not among the checkpoints. Add that '
                "base."
            )
        return base_name

    def base_called(self, told: str) -> str | None:
        """The base that an adapter's ``base_model_name_or_path`` means: by its source as it was added, else by name."""
        listed = {n: e for n, e in self._listed().items() if e.source is not None and self.place(n) is None}
        for name, entry in listed.items():
            if entry.source == told:
                return name
        name = Path(told).name
        place = self.place(name) if name else None
        if place is not None and not (place / ADAPTER_FILE).is_file() and is_base(place):
            return name
        return name if name in listed else None


def _adapted(name: str, base: Checkpoint, adapter: Path | str, arena: bool = True) -> Checkpoint:
    told = provenance_of(adapter) if isinstance(adapter, Path) else {"adapter": adapter}
    how = {"dtype": base.dtype, "device": base.device, "revision": base.revision, "arena": arena}
    return Checkpoint(name, base.layout, base.base, base.base_name, adapter, told, **how)


def _found(place: str, revision: str | None) -> Path | str:
    """The folder of a source, or its hub id as long as it is not here."""
    if not is_hub_id(place):
        return Path(place)
    from wavalign.models.registry_hub import cached

    return cached(place, revision) or place


def _here(checkpoint: Checkpoint) -> Path:
    if not isinstance(checkpoint.base, Path):
        raise CheckpointError(f'"{checkpoint.name}" is not downloaded yet: {checkpoint.base}.')
    return checkpoint.base
