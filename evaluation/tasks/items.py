"""The prompts of a task as a sequence that reads each recording when it is asked for, and even samples of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from evaluation.tasks.protocol import Item


@dataclass(frozen=True)
class Entry:
    """One prompt that is read when it is asked for."""

    id: str
    category: str
    load: Callable[[], Item]


class Items(Sequence[Item]):
    """Prompts in order. ``ids`` and ``categories`` are known without reading any of them."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self._entries)

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(entry.category for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Items: ...

    def __getitem__(self, index: int | slice) -> Item | Items:
        if isinstance(index, slice):
            return Items(self._entries[index])
        return self._entries[index].load()


def spread(entries: Sequence[Entry], limit: int | None, seed: int, even: bool = True) -> Items:
    """``limit`` of the entries in their order, drawn by ``seed``; a larger limit keeps what a smaller one has chosen.

    ``even`` lets the categories take turns, for benchmarks whose aggregate is a mean of subsets; without it every
    entry is as likely, so that a mean over replies estimates the whole set's. None takes them all.
    """
    if limit is None or limit >= len(entries):
        return Items(entries)
    by_category: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        by_category.setdefault(entry.category if even else "", []).append(place)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(places).tolist() for places in by_category.values()]
    turns = sorted((turn, column) for column, order in enumerate(orders) for turn in range(len(order)))
    chosen = sorted(orders[column][turn] for turn, column in turns[: max(limit, 0)])
    return Items([entries[place] for place in chosen])
