"""Questions that are being answered, so that the app can end without cutting one off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.intake import IntakeError

CLOSING = "This host is about to restart. Ask again in a minute; what you said before is kept."


class ClosingError(IntakeError):
    """Nothing new is begun any more; the message is one sentence for the visitor."""


class UnderWay:
    """Counts answers being made; once closed, no new one begins."""

    def __init__(self) -> None:
        self._stops: dict[int, threading.Event] = {}
        self._next = 0
        self._closed = False
        self._changed = threading.Condition()

    @property
    def count(self) -> int:
        with self._changed:
            return len(self._stops)

    @property
    def is_closed(self) -> bool:
        return self._closed

    @contextmanager
    def answering(self, stop: threading.Event) -> Iterator[None]:
        """Held while one question is answered; ``stop`` ends it early, and what was said so far is kept.

        Raises:
            ClosingError: when the app is about to end.
        """
        with self._changed:
            if self._closed:
                raise ClosingError(CLOSING)
            number = self._next = self._next + 1
            self._stops[number] = stop
        try:
            yield
        finally:
            with self._changed:
                del self._stops[number]
                self._changed.notify_all()

    def close(self, patience: float, grace: float = 5.0) -> int:
        """Begins nothing more; waits ``patience`` seconds for what is under way, then asks it to stop and waits
        ``grace`` seconds more. Returns how many were still under way."""
        with self._changed:
            self._closed = True
        if self._wait(patience):
            with self._changed:
                for stop in self._stops.values():
                    stop.set()
        return self._wait(grace)

    def _wait(self, seconds: float) -> int:
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._stops and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            return len(self._stops)
