"""Whether a GPU is lent to this process, call by call. Apart from what borrows it, which takes torch to import."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.borrowing import Gpu

_gpu: Gpu | None = None


def lend(gpu: Gpu | None) -> None:
    """Makes ``gpu`` known to all of this process."""
    global _gpu
    _gpu = gpu


def here() -> Gpu | None:
    """The GPU that is lent to this process, if any."""
    return _gpu
