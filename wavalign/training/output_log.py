"""What a run prints, also in its attempt's output.log; a launcher that writes that file itself is not disturbed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from wavalign.training.journal import Journal

OUTPUT = "output.log"


class _Tee:
    """A stream that also writes to a file; of a progress bar's redrawn line only every last state is kept."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self.stream, self.file = stream, file

    def write(self, text: str) -> int:
        self.file.write(text.replace("\r", "\n"))
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()
        self.file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def tee(journal: Journal | None) -> Iterator[None]:
    """Copies stdout and stderr into ``attempts/00k/output.log``; does nothing without a journal."""
    if journal is None or journal.log_is_written:
        yield
        return
    before = sys.stdout, sys.stderr
    with (journal.attempt_folder / OUTPUT).open("a", encoding="utf-8", buffering=1) as file:
        sys.stdout, sys.stderr = _Tee(before[0], file), _Tee(before[1], file)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before
