"""How often somebody may ask: a few times a minute each, and so many from one network address, which may be a class."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MINUTE = 60.0
_KEPT = 20_000


class LimitError(Exception):
    """Asked too often; the message is one sentence that says when to come back."""

    def __init__(self, sentence: str, seconds: float) -> None:
        super().__init__(sentence)
        self.seconds = seconds


@dataclass(frozen=True)
class Rate:
    """So many within a minute: of one visitor, and of one network address. ``what`` completes "That is 12 ..."."""

    what: str
    of_visitor: int
    of_address: int


RATES: Mapping[str, Rate] = {
    "talk": Rate("questions", 20, 120),
    "battle": Rate("questions", 15, 120),
    "message": Rate("requests", 240, 2400),
    "upload": Rate("uploads", 20, 120),
    "key": Rate("tries", 10, 10),
}
"""A page's own reports of what was heard are messages: many, and cheap."""


class Limiter:
    """Counts in memory, of this process. ``hashed`` makes a key of an address, which is not kept as it is."""

    def __init__(
        self,
        hashed: Callable[[str], str],
        rates: Mapping[str, Rate] = RATES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hashed = hashed
        self._rates = rates
        self._clock = clock
        self._lock = threading.Lock()
        self._times: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()

    def take(self, kind: str, address: str, visitor: str | None = None) -> None:
        """Counts one, or nothing where it is refused. Without a ``visitor`` the address is one visitor.

        Raises:
            LimitError: too many within the last minute.
        """
        rate, now = self._rates[kind], self._clock()
        hashed = self._hashed(address)
        one = f"visitor {visitor}" if visitor is not None else f"visitor at {hashed}"
        wanted = [((kind, f"address {hashed}"), rate.of_address, True), ((kind, one), rate.of_visitor, False)]
        with self._lock:
            for key, most, shared in wanted:
                times = self._recent(key, now)
                if len(times) >= most:
                    raise _refusal(rate, most, shared, times[0] + MINUTE - now)
            for key, _, _ in wanted:
                self._times[key].append(now)

    def _recent(self, key: tuple[str, str], now: float) -> deque[float]:
        times = self._times.setdefault(key, deque())
        self._times.move_to_end(key)
        while times and times[0] <= now - MINUTE:
            times.popleft()
        while len(self._times) > _KEPT:  # the memory is bounded; who asked longest ago is forgotten first
            self._times.popitem(last=False)
        return times


def _refusal(rate: Rate, most: int, shared: bool, seconds: float) -> LimitError:
    wait = max(1, math.ceil(seconds))
    whose = " from your network" if shared else ""
    return LimitError(
        f"That is {most} {rate.what}{whose} within a minute, as many as fit: come back in {wait} "
        f"second{'' if wait == 1 else 's'}.",
        seconds,
    )
