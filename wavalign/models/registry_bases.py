"""The bases in memory: shared by all their adapters, the least recently used put away when another needs the room."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from wavalign.models import memory
from wavalign.models.memory_estimate import Estimate, in_words
from wavalign.models.protocol import CheckpointError


@dataclass
class Loaded:
    """One base in memory. ``size`` in bytes, of all tensors with its codec and adapters; ``adapters`` are the names of
    the checkpoints attached to it, with a stamp of their files; ``users`` are answering right now."""

    name: str
    layout: str
    device: str
    base: Any
    base_folder: Path
    size: int
    used_at: float
    adapters: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    users: int = 0


class LoadedBases:
    """``budget``: bytes that all bases on one device may take together; None: what the device has.

    Loading happens one at a time, under the registry's lock; everything else may be asked at any time.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._bases: dict[str, Loaded] = {}
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
    def using(self, names: Iterator[str] | list[str]) -> Iterator[None]:
        """While open, these bases are not put away to make room."""
        with self._lock:
            held = [self._bases[name] for name in dict.fromkeys(names) if name in self._bases]
            for each in held:
                each.users += 1
        try:
            yield
        finally:
            with self._lock:
                for each in held:
                    each.users -= 1
                    each.used_at = time.monotonic()

    def make_room(self, wanted: str, estimate: Estimate, device: str, keep: frozenset[str] = frozenset()) -> list[str]:
        """Puts idle bases away, least recently used first, until ``estimate`` fits; returns their names.

        Raises:
            CheckpointError: when not even the weights would fit.
        """
        gone = []
        while self._lacking(estimate.total, device) > 0:
            name = self._least_recent(device, keep)
            if name is None:
                break
            self.drop(name)
            gone.append(name)
        if self._lacking(estimate.weights, device) > 0:
            raise CheckpointError(self._too_large(wanted, estimate, device))
        return gone

    def drop_idle(self, keep: frozenset[str] = frozenset()) -> list[str]:
        """Puts away all that nobody answers with right now."""
        with self._lock:
            idle = [name for name, each in self._bases.items() if not each.users and name not in keep]
        return [name for name in idle if self.drop(name)]

    def _least_recent(self, device: str, keep: frozenset[str]) -> str | None:
        with self._lock:
            idle = [
                each
                for name, each in self._bases.items()
                if each.device == device and not each.users and name not in keep
            ]
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
    """Bytes of all tensors of a base: its modules, its codec and whatever else of it is a torch module."""
    sizes: dict[int, int] = {}
    for part in vars(base).values():
        module = part if isinstance(part, nn.Module) else None
        if module is None:
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
