"""Who stands in the line: by their network address, and only as long as somebody listens for the answer."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from app.access import Role
from app.callers import caller_of
from app.line import Turn

if TYPE_CHECKING:
    from app.services import Services


class Listeners:
    """Tabs whose stream of events is open; the gate notes it."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def listening(self, tab: str) -> Iterator[None]:
        with self._lock:
            self._open[tab] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[tab] -= 1
                if not self._open[tab]:
                    del self._open[tab]

    def has(self, tab: str | None) -> bool:
        with self._lock:
            return tab in self._open


def turn_of(services: Services, request: Any) -> AbstractContextManager[Turn]:
    """A place in the line; without a bound for the host, and on this machine, where a proxy may speak for many.

    Raises:
        BusyError: when it is entered, and as many wait as may.
    """
    caller = caller_of(request)
    if not caller.address or caller.role is Role.HOST or _is_loopback(caller.address):
        return services.line.turn()
    tab = getattr(request, "session_hash", None)
    return services.line.turn(services.raters.address(caller.address), lambda: services.listeners.has(tab))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
