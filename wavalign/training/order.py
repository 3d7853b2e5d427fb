"""In which order examples are drawn: a pure function of seed and position, so that a resumed run goes on exactly."""

from __future__ import annotations

import numpy as np

_STREAM = 0x0DE2
"""Keeps this stream of random numbers apart from others that are seeded alike."""


class Order:
    """Places 0..length-1, once each in every epoch, in an order of that epoch's own.

    ``position`` counts draws from the start of the run and is the whole state. With several processes each takes its
    share of the same positions, so the order does not depend on their number.
    """

    def __init__(self, length: int, seed: int = 0, shuffle: bool = True) -> None:
        if length < 1:
            raise ValueError("There is nothing to draw from: no examples.")
        self.length = length
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = -1
        self._places = np.arange(length)

    def __getitem__(self, position: int) -> int:
        """Which example is drawn at a position, from 0, of an endless run."""
        if position < 0:
            raise IndexError(f"A position counts from 0, got {position}.")
        epoch, place = divmod(position, self.length)
        return int(self._of(epoch)[place])

    def take(self, position: int, count: int) -> list[int]:
        """``count`` draws from ``position`` on; the next call starts at ``position + count``."""
        return [self[position + offset] for offset in range(count)]

    def _of(self, epoch: int) -> np.ndarray:
        if self.shuffle and epoch != self._epoch:
            self._places = np.random.default_rng([_STREAM, self.seed, epoch]).permutation(self.length)
            self._epoch = epoch
        return self._places
