"""Processes as threads, for what they share out and put together."""

from __future__ import annotations

import threading
from typing import Any

_PATIENCE = 200


class Together:
    """Processes as threads: a ``World`` of ``size``, seen by one of them."""

    def __init__(self, rank: int, barrier: threading.Barrier, values: list[Any]) -> None:
        self.rank, self.size, self.barrier, self.values = rank, barrier.parties, barrier, values

    def gather(self, value: Any) -> list[Any]:
        self.values[self.rank] = value
        self.barrier.wait(_PATIENCE)
        everybody = list(self.values)
        self.barrier.wait(_PATIENCE)
        return everybody


def processes(size: int) -> list[Together]:
    """One for each thread."""
    barrier, values = threading.Barrier(size), [None] * size
    return [Together(rank, barrier, values) for rank in range(size)]
