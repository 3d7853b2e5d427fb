"""The line in front of the models: a few are answered at once, a bounded number waits, and each is told how many wait
before them."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

STOP_SECONDS = 0.5
AGAIN_SECONDS = 2.0


class BusyError(Exception):
    """Too many wait already; the message is one sentence."""


class Turn:
    """One's place in the line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def waiting(self, stop: threading.Event) -> Generator[int, None, bool]:
        """How many are before this one: at first, whenever it changes, and now and then, so that who has left is
        noticed. Returns whether its turn came; ``stop`` ends the wait.
        """
        told, since = -1, time.monotonic()
        while not stop.is_set():
            is_served, ahead = self._line._wait(self, told, STOP_SECONDS)
            if is_served:
                return True
            if ahead != told or time.monotonic() - since > AGAIN_SECONDS:
                told, since = ahead, time.monotonic()
                yield ahead
        return False


class Line:
    """First come, first served: ``at_once`` are served together, ``waiting`` may stand behind them."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once = at_once
        self._most = waiting
        self._changed = threading.Condition()
        self._waiting: list[Turn] = []
        self._served: set[Turn] = set()

    def __len__(self) -> int:
        """How many wait."""
        with self._changed:
            return len(self._waiting)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """A place, given up at the end.

        Raises:
            BusyError: as many wait as may.
        """
        turn = Turn(self)
        with self._changed:
            if len(self._waiting) >= self._most:
                raise BusyError(
                    f"Many people are here: {len(self._waiting)} wait already, which is as many as fit. "
                    "Nothing is lost: ask again in a minute."
                )
            self._waiting.append(turn)
            self._serve()
        try:
            yield turn
        finally:
            with self._changed:
                self._served.discard(turn)
                if turn in self._waiting:
                    self._waiting.remove(turn)
                self._serve()

    def _serve(self) -> None:
        while self._waiting and len(self._served) < self._at_once:
            self._served.add(self._waiting.pop(0))
        self._changed.notify_all()

    def _wait(self, turn: Turn, told: int, seconds: float) -> tuple[bool, int]:
        """Until its turn comes, or the number before it is not ``told`` any more, or so many seconds are over."""
        with self._changed:
            self._changed.wait_for(
                lambda: turn in self._served or self._waiting.index(turn) != told,
                seconds,
            )
            return turn in self._served, self._waiting.index(turn) if turn in self._waiting else 0


def words(ahead: int) -> str:
    """What somebody who waits reads."""
    if ahead == 0:
        return "You are next."
    return f"Others are being answered. {ahead} {'waits' if ahead == 1 else 'wait'} before you."
