"""Training in slices of time, each ended by a save: the bytes are those of a run that was never interrupted.

A slice is a start of the trainer like any other, so it begins from the last complete checkpoint; it ends between steps,
early enough that the next step and the save would still have fitted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wavalign.training.journal import ATTEMPT_VARIABLE
from wavalign.training.run_lock import alone
from wavalign.training.stopping import StopRequest

OVER = "the slice is over"
ORPHANED = "whoever gave the slice is gone"
_FASTER_BY = 1.25
"""A step may take so many times as long as the longest before it."""


@dataclass(frozen=True)
class Slice:
    """How a slice ended: ``status`` is completed, stopped or failed; ``reason`` ``OVER`` when only the time was up."""

    status: str
    reason: str
    step: int
    seconds: float


class SliceStop(StopRequest):
    """Asks to stop when the next step would not fit any more; at least one step is taken.

    Looked at between steps. ``seconds`` count from ``began``, monotonic; ``margin`` is kept for the save.
    """

    def __init__(
        self, seconds: float, began: float, margin: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._until = began + seconds - margin
        self._clock = clock
        self._parent = os.getppid()
        self._looked: float | None = None
        self._longest = 0.0
        self._asked: str | None = None

    @property
    def reason(self) -> str | None:
        """Set once, and kept."""
        now = self._clock()
        if self._looked is not None:
            self._longest = max(self._longest, now - self._looked)
        first, self._looked = self._looked is None, now
        if self._asked is None and os.getppid() != self._parent:
            self._asked = ORPHANED
        elif self._asked is None and not first and now + _FASTER_BY * self._longest > self._until:
            self._asked = OVER
        return self._asked

    def ask(self, reason: str) -> None:
        self._asked = self._asked or reason

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Not in the main thread, signals are somebody else's."""
        yield


def train_slice(
    folder: Path, assets: Path, home: Path | None, attempt: int, seconds: float, patience: float = 30.0
) -> Slice:
    """Trains the run in ``folder`` for at most ``seconds``, loading and saving included, and saves it.

    What it prints goes to the attempt's ``output.log``. A run has one slice at a time: whoever finds it taken waits
    ``patience`` seconds.

    Raises:
        RunBusy: when another process still trains the run.
    """
    began = time.monotonic()
    output = folder / "attempts" / f"{attempt:03d}" / "output.log"
    output.parent.mkdir(parents=True, exist_ok=True)
    os.environ[ATTEMPT_VARIABLE] = str(attempt)
    with (
        output.open("a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
        alone(folder, patience),
    ):
        return _trained(folder, assets, home, seconds, began)


def _trained(folder: Path, assets: Path, home: Path | None, seconds: float, began: float) -> Slice:
    import torch

    from wavalign.training.config_files import load_config
    from wavalign.training.journal import CONFIG, Journal
    from wavalign.training.loop import Trainer

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    journal, trainer = Journal(folder), None
    try:
        trainer = Trainer(load_config(folder / CONFIG), folder, assets, home, quiet=True, journal=journal)
        trainer.stop = SliceStop(seconds, began, margin=min(10.0, seconds / 6))
        status = trainer.run()
    except Exception as error:  # the boundary: the run gets a reason, its log the traceback
        traceback.print_exc(file=sys.stderr)
        reason = str(error) if isinstance(error, (ValueError, RuntimeError)) else f"{type(error).__name__}: {error}"
        step = getattr(trainer, "step", 0)
        journal.event("failed", reason=reason)
        journal.result("failed", reason, step)
        return Slice("failed", reason, step, time.monotonic() - began)
    reason = (trainer.stop.reason or "") if status == "stopped" else ""
    return Slice(status, reason, trainer.step, time.monotonic() - began)
