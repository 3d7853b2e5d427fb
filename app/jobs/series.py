"""The metrics of a run as columns of numbers, read on as the file grows, and thinned for a plot.

A run of 10,000 steps is read once; afterwards a look costs what was added since.
"""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import numpy as np

from wavalign.training.journal import METRICS

_META = ("step", "attempt", "time", "non_finite")
_CHUNK = 2**19


class Series:
    """One run's metrics by name over its steps; of a step that was taken again, the last attempt's.

    ``version`` grows when something was read. Safe to use from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        self.version = 0
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._offset = 0
        self._rest = b""
        self.behind = False
        self._rows = self._last = 0
        self._place: dict[int, int] = {}
        self._columns: dict[str, np.ndarray] = {}

    def read(self, until: float = math.inf) -> Series:
        """Takes in what was added; a file that shrank is another one and is read anew.

        After the moment ``until`` (``time.monotonic``) it leaves the rest to the next look; ``behind`` says so.
        """
        with self._lock:
            try:
                size = self.path.stat().st_size
                if size < self._offset:
                    self._clear()
                if size == self._offset:
                    return self
                before = self._offset
                with self.path.open("rb") as stream:
                    stream.seek(self._offset)
                    while time.monotonic() < until and (data := stream.read(_CHUNK)):
                        self._offset += len(data)
                        self._take(data)
                self.behind = self._offset < size
            except OSError:
                return self
            self.version += self._offset > before
        return self

    def _take(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()  # perhaps half a line: the next look has the rest
        for line in lines:
            try:
                row = json.loads(line)
                step = int(row["step"])
            except (ValueError, KeyError, TypeError):
                continue
            self._last = max(self._last, step)
            place = self._place.get(step)
            if place is None:
                place = self._place[step] = self._rows
                self._rows += 1
            else:
                for column in self._columns.values():
                    column[place] = np.nan
            self._set("step", place, step)
            for name, value in row.items():
                if name in ("step", "non_finite") or not isinstance(value, int | float):
                    continue
                self._set(name, place, value)

    def _set(self, name: str, place: int, value: float) -> None:
        column = self._columns.get(name)
        if column is None or place >= len(column):
            grown = np.full(max(64, 2 * (place + 1)), np.nan)
            if column is not None:
                grown[: len(column)] = column
            column = self._columns[name] = grown
        column[place] = value

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in list(self._columns) if name not in _META)

    @property
    def steps(self) -> int:
        """The last step; 0 before the first."""
        return self._last

    def get(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values, each (n,), where the metric has a value; by step."""
        with self._lock:
            column = self._columns.get(name)
            if column is None:
                return np.zeros(0), np.zeros(0)
            steps, values = self._columns["step"][: self._rows], column[: self._rows]
            # A column that came later, or has ended, is shorter than the rows.
            if len(values) < self._rows:
                values = np.concatenate([values, np.full(self._rows - len(values), np.nan)])
            known = ~np.isnan(values)
            steps, values = steps[known], values[known]
        if len(steps) > 1 and np.any(np.diff(steps) < 0):
            order = np.argsort(steps, kind="stable")
            return steps[order], values[order]
        return steps.copy(), values.copy()

    def latest(self, name: str) -> float | None:
        _, values = self.get(name)
        return float(values[-1]) if len(values) else None


def thinned(steps: np.ndarray, values: np.ndarray, points: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """At most about ``points`` of the points: of each stretch its least and its greatest, first and last of all."""
    count = len(values)
    if count <= points or points < 4:
        return steps, values
    stretches = (points - 2) // 2
    width = -(-(count - 2) // stretches)
    inner = values[1:-1]
    padded = np.concatenate([inner, np.full(width * -(-len(inner) // width) - len(inner), inner[-1])])
    blocks = padded.reshape(-1, width)
    starts = 1 + width * np.arange(len(blocks))
    found = np.concatenate([starts + blocks.argmin(1), starts + blocks.argmax(1), [0, count - 1]])
    kept = np.unique(np.minimum(found, count - 1))
    return steps[kept], values[kept]


def smoothed(values: np.ndarray, memory: float) -> np.ndarray:
    """The moving average y_t = memory y_(t-1) + (1 - memory) x_t, y_0 = x_0."""
    if memory <= 0 or not len(values):
        return values
    from scipy.signal import lfilter

    averaged, _ = lfilter([1 - memory], [1, -memory], values, zi=[memory * values[0]])
    return averaged
