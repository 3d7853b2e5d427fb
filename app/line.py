"""The line in front of the models: a few are answered at once, a bounded number waits, and each is told how many wait
before them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

STOP_SECONDS = 0.5
AGAIN_SECONDS = 2.0
GONE_SECONDS = 15.0
"""Who does not listen for so long has no place any more; a page listens at once."""


class BusyError(Exception):
    """Too many wait already; the message is one sentence."""


class Turn:
    """One's place in the line."""

    def __init__(self, line: Line, who: str | None, listens: Callable[[], bool]) -> None:
        self._line = line
        self.who = who
        self._listens = listens

    def waiting(self, stop: threading.Event) -> Generator[int, None, bool]:
        """How many are before this one: at first, whenever it changes, and now and then, so that who has left is
        noticed. Returns whether its turn came; ``stop`` ends the wait,
        and is set where nobody listens.
        """
        told, since = -1, time.monotonic()
        heard = since
        while not stop.is_set():
            is_served, ahead = self._line._wait(self, told, STOP_SECONDS)
            if is_served:
                return True
            if self._listens():
                heard = time.monotonic()
            elif time.monotonic() - heard > GONE_SECONDS:
                stop.set()
            if ahead != told or time.monotonic() - since > AGAIN_SECONDS:
                told, since = ahead, time.monotonic()
                yield ahead
        return False


class Line:
    """First come, first served: ``at_once`` are served together, ``waiting`` may stand behind them."""

    def __init__(self, at_once: int, waiting: int, of_one: int | None = None) -> None:
        """``of_one``: how many places one address may have, those being served included."""
        self._at_once = at_once
        self._of_one = of_one
        self._most = waiting
        self._changed = threading.Condition()
        self._waiting: list[Turn] = []
        self._served: set[Turn] = set()

    def __len__(self) -> int:
        """How many wait."""
        with self._changed:
            return len(self._waiting)

    @contextmanager
    def turn(self, who: str | None = None, listens: Callable[[], bool] = lambda: True) -> Iterator[Turn]:
        """A place, given up at the end. ``who``: a hashed address, None for somebody without a bound; ``listens`` says
        whether anybody is there to read the answer.

        Raises:
            BusyError: as many wait as may, of all or of this address.
        """
        turn = Turn(self, who, listens)
        with self._changed:
            own = sum(each.who == who for each in (*self._waiting, *self._served))
            if who is not None and self._of_one is not None and own >= self._of_one:
                raise BusyError(
                    f"{own} questions from your network wait already, which is as many as fit. "
                    "Nothing is lost: ask again in a minute."
                )
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
