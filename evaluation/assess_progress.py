"""How far an evaluation is, and when it will be done."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from wavalign.training.journal import Journal


class Progress:
    """A bar on the terminal, and ``progress.json`` for whoever looks from outside.

    Of several processes the one with a ``journal`` tells how far its own share is.
    """

    def __init__(
        self, path: Path, journal: Journal | None, quiet: bool, clock: Callable[[], float] = time.time
    ) -> None:
        self.path, self.journal, self.quiet, self.clock = path, journal, quiet, clock
        self._bar: tqdm | None = None
        self._name, self._began, self._before = "", 0.0, 0
        self._failures: Callable[[], int] = lambda: 0

    def stage(self, name: str, total: int, done: int, failures: Callable[[], int]) -> Progress:
        self._name, self._began, self._before, self._failures = name, self.clock(), done, failures
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=name,
            unit="reply",
            disable=self.quiet or self.journal is None or not sys.stderr.isatty(),
            leave=False,
        )
        self._bar.n = done
        self._tell()
        return self

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int) -> None:
        assert self._bar is not None
        if self._bar.disable:
            self._bar.n += count
        else:
            self._bar.set_postfix(failed=self._failures())
            self._bar.update(count)
        self._tell()

    def _tell(self) -> None:
        if self.journal is None:  # the first process tells
            return
        done, total, now = int(self._bar.n), int(self._bar.total), self.clock()
        fresh = done - self._before
        left = (now - self._began) / fresh * (total - done) if fresh else None
        self.journal.heartbeat(done)
        write_whole(
            self.path,
            {
                "stage": self._name,
                "done": done,
                "total": total,
                "failed": self._failures(),
                "seconds_left": None if left is None else round(left, 1),
                "time": now,
            },
        )


def write_whole(path: Path, data: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
