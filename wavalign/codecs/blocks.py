"""Decoders that make sound a block of codes at a time: what streams out is then what decoding the whole gives.

Flow-matching decoders hear a block with what came before it; other blocks give other samples. So the blocks are cut by
the number of codes alone, however they arrive, and their noise is seeded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch


class BlockSession(Protocol):
    """One reply in a decoder that remembers what it has said."""

    def block(self, codes: list[int], last: bool) -> np.ndarray:
        """The next codes, with ``look_ahead`` more behind them unless they are the ``last``; float32 samples (n,)."""

    def close(self) -> None:
        """Frees what is remembered. Called once, also when the reply was not finished."""


class BlockStream:
    """A ``StreamingDecoder`` over blocks of ``sizes`` codes, the last size repeated; ``least`` codes, or all there are,
    are kept for the block that ends the sound."""

    def __init__(
        self, opened: Callable[[], BlockSession], sizes: Sequence[int], look_ahead: int = 0, least: int = 1
    ) -> None:
        self._opened = opened
        self._sizes = list(sizes)
        self._look_ahead = look_ahead
        self._reserve = max(look_ahead + 1, least)
        self._pending: list[int] = []
        self._session: BlockSession | None = None

    def push(self, codes: list[int]) -> np.ndarray:
        self._pending += codes
        made = []
        while len(self._pending) >= self._sizes[0] + self._reserve:
            size = self._sizes[0]
            self._sizes = self._sizes[1:] or self._sizes
            made.append(self._current().block(self._pending[: size + self._look_ahead], False))
            self._pending = self._pending[size:]
        return np.concatenate(made) if made else np.zeros(0, np.float32)

    def finish(self) -> np.ndarray:
        samples = self._current().block(self._pending, True) if self._pending else np.zeros(0, np.float32)
        self._pending = []
        self.close()
        return samples

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _current(self) -> BlockSession:
        if self._session is None:
            self._session = self._opened()
        return self._session

    def __del__(self) -> None:
        self.close()


_NOISE = threading.RLock()


@contextmanager
def fixed_noise(device: torch.device) -> Iterator[None]:
    """torch's generators start the same each time and are put back after; one thread at a time."""
    with _NOISE, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def checked(codes: Sequence[int], size: int) -> list[int]:
    """Raises:
    ValueError: when a code is none of ``range(size)``.
    """
    listed = [int(code) for code in codes]
    if listed and not (min(listed) >= 0 and max(listed) < size):
        raise ValueError(f"Codes must lie in 0..{size - 1}, got {min(listed)}..{max(listed)}.")
    return listed
