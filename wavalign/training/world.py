"""The processes of a run as one: who holds which prompts, and what everybody must know of everybody."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list, gather_object

T = TypeVar("T")
_PATIENCE = timedelta(days=7)
"""For how long a process waits for the others: their parts of the work may differ by hours."""


class World(Protocol):
    rank: int
    size: int

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks, on every process."""


class Alone:
    """One process."""

    rank, size = 0, 1

    def gather(self, value: T) -> list[T]:
        return [value]


class Accelerated:
    """The processes that Accelerate started."""

    def __init__(self, accelerator: Accelerator | PartialState) -> None:
        self.rank = accelerator.process_index
        self.size = accelerator.num_processes

    def gather(self, value: T) -> list[T]:
        return gather_object([value]) if self.size > 1 else [value]

    def agreed(self, value: T) -> T:
        """The first process's value, on every process."""
        if self.size == 1:
            return value
        holder: list[Any] = [value]
        broadcast_object_list(holder)
        return holder[0]


def launched() -> World:
    """The processes that torchrun or ``accelerate launch`` started for this program, each with a GPU of its own where
    there are any; ``Alone`` where nothing was launched."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Alone()
    return Accelerated(PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE))


def share(count: int, world: World) -> range:
    """The places among ``count`` that this process holds: contiguous, in the order of ranks.

    Raises:
        ValueError: when they cannot be shared out evenly.
    """
    if count % world.size:
        raise ValueError(
            f"batch is {count} prompts, which {world.size} processes cannot share evenly; make it a multiple."
        )
    each = count // world.size
    return range(world.rank * each, (world.rank + 1) * each)


def joined(parts: Sequence[Sequence[T]]) -> list[T]:
    """The processes' lists as one."""
    return [value for part in parts for value in part]
