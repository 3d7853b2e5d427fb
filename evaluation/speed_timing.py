"""Timing several sides in turn, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from wavalign.models.interleaved import InterleavedModel
from wavalign.models.registry import Registry


@dataclass(frozen=True)
class SpeedOptions:
    """What the command line asks for; ``adapter`` None takes the first of the base there is."""

    assets: Path
    home: Path
    checkpoint: str
    adapter: str | None
    turns: int
    device: str = "cuda"
    size: str = "small"
    """Of the random-weight checkpoints of ``gpu``."""

    def registry(self) -> Registry:
        return Registry(self.assets, self.home)

    def model(self) -> InterleavedModel:
        return self.registry().load([self.checkpoint])


def in_turn(sides: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Wall seconds of each side in each turn; a first turn that warms up is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, act in sides.items():
            started = time.perf_counter()
            act()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def median_ratio(over: list[float], under: list[float]) -> float:
    """The median of the turns' ratios: each turn compares what ran right after each other."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))
