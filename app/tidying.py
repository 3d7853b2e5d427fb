"""What raters allow no use of is erased in time, whether or not anybody visits."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable

from app import logs

SECONDS = 600.0
"""Between two looks at what is due."""


class Tidying:
    """Calls ``sweep`` at once and every ``seconds``, in the background.

    ``told`` gets a sentence for the host, once a trouble.
    """

    def __init__(
        self, sweep: Callable[[], None], seconds: float = SECONDS, told: Callable[[str], None] = logs.say
    ) -> None:
        self._sweep = sweep
        self._seconds = seconds
        self._told = told
        self._trouble: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidying", daemon=True)

    def start(self) -> Tidying:
        self._thread.start()
        return self

    def stop(self, patience: float = 2.0) -> None:
        """Nothing more is begun; what is cut off after ``patience`` seconds is made up for at the next start."""
        self._ended.set()
        self._thread.join(patience)

    def _run(self) -> None:
        self._once()
        while not self._ended.wait(self._seconds):
            self._once()

    def _once(self) -> None:
        try:
            self._sweep()
        except Exception as error:  # whatever it is, the next sweep must still be tried
            trouble = f"What may not be kept was not erased ({logs.where(error)}); it is tried again."
            if trouble != self._trouble:
                traceback.print_exception(error, file=sys.stderr)
                self._told(trouble)
            self._trouble = trouble
        else:
            self._trouble = None
