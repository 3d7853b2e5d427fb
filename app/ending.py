"""How the app ends: told by a signal, in an order that loses nothing, in seconds that are bounded."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from app import logs
from app.services import Services

if TYPE_CHECKING:
    from app.keeping import Keeping
    from app.pushing import Pushing

PATIENCE, GRACE = 8.0, 4.0
"""Seconds that replies under way may take, and then to stop: a host that ends the app waits about thirty."""
JOBS_PATIENCE = 12.0
"""Seconds that jobs have to save, after the replies."""


class Ending:
    """Set by the first SIGTERM or Ctrl-C; the second ends the app at once."""

    def __init__(self) -> None:
        self._told = threading.Event()

    @classmethod
    def on_signals(cls) -> Ending:
        """Listens from now on; only the main thread can."""
        ending = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, ending._on_signal)
        return ending

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._told.is_set():
            os._exit(130)
        self._told.set()

    def wait(self) -> None:
        while not self._told.wait(3600.0):
            pass


def end(
    services: Services,
    pushing: Pushing,
    keeping: Keeping | None = None,
    patience: float = PATIENCE,
    grace: float = GRACE,
) -> None:
    """Nothing new is begun; replies are finished or stopped; votes go to the Hub.

    Jobs are processes of their own and go on; where they would end with the app, they save first.
    """
    asked = services.under_way.count
    logs.say("Ending: nothing new is begun." if asked else "Ending.", event="ending", answering=asked)
    left = services.under_way.close(patience, grace)
    pushing.stop()  # before jobs: it is short, and what it keeps is other people's
    if working := services.pause_jobs(JOBS_PATIENCE):
        logs.say(f"{working} jobs did not save in time; they go on from the save before.", event="jobs cut off")
    if keeping is not None:
        keeping.stop()
    logs.say("Ended." if not left else f"Ended while {left} replies were under way.", event="ended", cut_off=left)
