"""Asking a run to stop: Ctrl-C, SIGTERM, or the run folder's control.json. It stops between steps, after a save."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """``reason`` is set by the first signal; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def ask(self, reason: str) -> None:
        self.reason = self.reason or reason

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.ask("interrupted" if number == signal.SIGINT else "terminated")
        print("Stopping after this step, and saving. Press Ctrl-C again to stop at once.", flush=True)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals are answered by this request; only the main thread can listen."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
