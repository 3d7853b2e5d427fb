"""Questions under way, so that whoever asked one can stop it: even while it waits for its turn."""

from __future__ import annotations

import threading
from collections import OrderedDict

_REMEMBERED = 1_000
"""Stops of questions that never came are forgotten, the oldest first."""


class Asks:
    """A question's key is its rater and a name that the page gave it; nobody stops another's."""

    def __init__(self) -> None:
        self._events: OrderedDict[tuple[str, str], threading.Event] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, rater: str, ask: str) -> threading.Event:
        """The question's stop signal; set already when it was stopped before its turn came."""
        return self._event((rater, ask))

    def stop(self, rater: str, ask: str) -> None:
        self._event((rater, ask)).set()

    def end(self, rater: str, ask: str) -> None:
        """It is answered, or failed: its signal is dropped."""
        with self._lock:
            self._events.pop((rater, ask), None)

    def _event(self, key: tuple[str, str]) -> threading.Event:
        with self._lock:
            event = self._events.setdefault(key, threading.Event())
            stopped = [each for each, signal in self._events.items() if signal.is_set() and each != key]
            for old in stopped[: max(0, len(self._events) - _REMEMBERED)]:
                del self._events[old]
            return event
