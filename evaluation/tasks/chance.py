"""Guesses for replies that give no answer, as the published scorers make them, but the same at every run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def guess(options: Sequence[T], item: str, seed: int) -> T:
    """One of the options, drawn by the item's id and the reply's sampling seed.

    Two checkpoints that both give no answer to an item get the same guess, so that chance tells them apart nowhere.
    """
    digest = hashlib.sha256(f"{item}\0{seed}".encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]
