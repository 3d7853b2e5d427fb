"""Numbers on a command line: what does not fit is told in one sentence before anything begins."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def whole(least: int) -> Callable[[str], int]:
    """A whole number, ``least`` or more."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return read


def number(low: float, high: float = math.inf) -> Callable[[str], float]:
    """A finite number from ``low`` to ``high``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            bounds = f"from {low:g} " + ("on" if high == math.inf else f"to {high:g}")
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {bounds}")
        return value

    return read
