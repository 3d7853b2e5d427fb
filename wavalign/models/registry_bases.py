"""The bases in memory: shared by all their adapters, the least recently used put away when another needs the room."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from wavalign.models import memory
from wavalign.models.memory_estimate import Estimate, in_words
from wavalign.models.protocol import CheckpointError

Stamp = tuple[str, int, int]
"""Path, time of change and size of an adapter's file: tells it from another of the same name."""


@dataclass
class Loaded:
    """One base in memory. ``size`` in bytes, of all tensors with its codec and adapters; ``adapters``: of the
    checkpoints attached to it, a stamp of their files and their name on the base."""

    name: str
    layout: str
    device: str
    base: Any
    base_folder: Path
    size: int
    used_at: float
    adapters: dict[str, tuple[Stamp, str]] = field(default_factory=dict)


class LoadedBases:
    """``budget``: bytes that all bases on one device may take together; None: what the device has.

    Loading happens one at a time, under the registry's lock; everything else may be asked at any time.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._bases: dict[str, Loaded] = {}
        self._users: Counter[str] = Counter()
        self._lock = threading.Lock()

    def all(self) -> tuple[Loaded, ...]:
        """The most recently used first."""
        with self._lock:
            return tuple(sorted(self._bases.values(), key=lambda each: -each.used_at))

    def find(self, name: str) -> Loaded | None:
        """A base by its name; it counts as used."""
        with self._lock:
            loaded = self._bases.get(name)
            if loaded is not None:
                loaded.used_at = time.monotonic()
            return loaded

    def put(self, name: str, layout: str, device: str, base: Any, folder: Path) -> Loaded:
        loaded = Loaded(name, layout, device, base, folder, footprint(base), time.monotonic())
        with self._lock:
            self._bases[name] = loaded
        return loaded

    def measured(self, name: str) -> None:
        """Its size is counted anew: an adapter came."""
        with self._lock:
            if name in self._bases:
                self._bases[name].size = footprint(self._bases[name].base)

    def drop(self, name: str) -> bool:
        """Puts a base away; what still answers with it keeps it until it has answered. False when it was not here."""
        with self._lock:
            found = self._bases.pop(name, None)
        if found is None:
            return False
        del found
        memory.give_back()
        return True

    def clear(self) -> None:
        with self._lock:
            self._bases.clear()

    @contextmanager
    def using(self, names: Iterable[str]) -> Iterator[None]:
        """While open, bases of these names are not put away to make room, whether they are here already or not."""
        held = set(names)
        with self._lock:
            self._users.update(held)
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract(held)
                for name in held & self._bases.keys():
                    self._bases[name].used_at = time.monotonic()

    def release_locks(self) -> None:
        """For a process that was just forked; what others were answering there, nobody answers here."""
        self._lock = threading.Lock()
        self._users.clear()

    def users(self, name: str) -> int:
        """How many answers are being made with a base right now."""
        with self._lock:
            return self._users[name]

    def make_room(self, wanted: str, estimate: Estimate, device: str) -> list[str]:
        """Puts idle bases away, least recently used first, until ``estimate`` fits; returns their names.

        Raises:
            CheckpointError: when not even the weights would fit.
        """
        gone = []
        while self._lacking(estimate.total, device) > 0:
            name = self._least_recent(device)
            if name is None:
                break
            self.drop(name)
            gone.append(name)
        if self._lacking(estimate.weights, device) > 0:
            raise CheckpointError(self._too_large(wanted, estimate, device))
        return gone

    def drop_idle(self) -> list[str]:
        """Puts away all that nobody answers with right now."""
        with self._lock:
            idle = [name for name in self._bases if not self._users[name]]
        return [name for name in idle if self.drop(name)]

    def _least_recent(self, device: str) -> str | None:
        with self._lock:
            idle = [each for name, each in self._bases.items() if each.device == device and not self._users[name]]
        return min(idle, key=lambda each: each.used_at).name if idle else None

    def _lacking(self, size: int, device: str) -> int:
        """Bytes that are missing for ``size`` more; 0 or less when it fits."""
        lacking = size - memory.free_bytes(device)
        if self.budget is not None:
            with self._lock:
                taken = sum(each.size for each in self._bases.values() if each.device == device)
            lacking = max(lacking, taken + size - self.budget)
        return lacking

    def _too_large(self, wanted: str, estimate: Estimate, device: str) -> str:
        free = memory.free_bytes(device)
        where = "this machine" if device == "cpu" else device
        within = f", and checkpoints may take {in_words(self.budget)} (WAVALIGN_MODEL_MEMORY)" if self.budget else ""
        busy = " What is loaded is answering right now; try again in a moment, or" if self.all() else ""
        return (
            f'"{wanted}" needs about {in_words(estimate.total)}; {where} has {in_words(free)} free{within}.{busy} '
            "choose a smaller checkpoint, or bfloat16, or another device."
        ).replace(". choose", ". Choose")


def budget_of(environment: Mapping[str, str] = os.environ) -> int | None:
    """WAVALIGN_MODEL_MEMORY, in GB, in bytes; None when it is not set.

    Raises:
        CheckpointError: when it is not a number above 0.
    """
    told = environment.get("WAVALIGN_MODEL_MEMORY", "").strip()
    if not told:
        return None
    try:
        gigabytes = float(told)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e6:
        raise CheckpointError(f"WAVALIGN_MODEL_MEMORY must be gigabytes, such as 24, got {told[:20]!r}.")
    return int(gigabytes * 1e9)


def footprint(base: Any) -> int:
    """Bytes of all tensors of a base: its modules, its codec and whatever else of it holds torch modules."""
    parts = [each for each in vars(base).values() if each is not None]
    parts += [inner for part in parts if hasattr(part, "__dict__") for inner in vars(part).values()]
    sizes: dict[int, int] = {}
    for module in parts:
        if not isinstance(module, nn.Module):
            continue
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def holding(load: Callable[[], Any], room: Callable[[], list[str]], wanted: str, estimate: Estimate) -> Any:
    """``load()``; where memory runs out, once more after ``room()`` made some.

    Raises:
        CheckpointError: what loading says, or that it does not fit.
    """
    for attempt in range(2):
        try:
            return load()
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
        # Outside of the handler, whose traceback holds what was loaded in part.
        memory.give_back()
        if attempt or not room():
            break
    raise CheckpointError(
        f'Memory ran out while "{wanted}" was loaded (about {in_words(estimate.total)} by its files), and it was put '
        "away again. Unload others, or choose a smaller checkpoint, bfloat16 or another device."
    )
