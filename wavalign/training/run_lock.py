"""One process at a time trains a run."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "training.lock"
NO_LOCKS = "The file system of this run has no locks: see to it that no other process trains it meanwhile."


class RunBusy(RuntimeError):
    """Another process trains this run; the message is one sentence."""


@contextmanager
def alone(folder: Path, patience: float) -> Iterator[None]:
    """Holds the run in ``folder``; whoever finds it taken waits ``patience`` seconds.

    The kernel lets go of the lock when its holder dies. Where the file system has no locks, it says so on stderr.

    Raises:
        RunBusy: when another process still trains the run.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise RunBusy(
                        f"{folder.resolve().name} is still being trained by another process. "
                        "Stop that one first, or wait for its end."
                    ) from None
                time.sleep(0.1)
            except OSError:
                print(NO_LOCKS, file=sys.stderr)
                break
        yield
    finally:
        with suppress(OSError):  # said, not left to the closing: a process that was forked meanwhile has the file open
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
