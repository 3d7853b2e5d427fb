"""How far loading is, told while it happens: what is being done, and the fraction of it that is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Tell = Callable[[str, float | None], None]
"""Words, and a fraction from 0 to 1 or None when it is not known."""


@dataclass(frozen=True)
class Progress:
    """``since`` is monotonic time."""

    name: str
    words: str
    fraction: float | None
    since: float

    def sentence(self) -> str:
        share = "" if self.fraction is None else f", {100 * self.fraction:.0f} %"
        return f"{self.words}{share} ({max(0.0, time.monotonic() - self.since):.0f} s)"


class Board:
    """What is being loaded now, by name; any thread may look."""

    def __init__(self) -> None:
        self._now: dict[str, Progress] = {}
        self._lock = threading.Lock()

    def all(self) -> tuple[Progress, ...]:
        with self._lock:
            return tuple(self._now.values())

    @contextmanager
    def loading(self, name: str) -> Iterator[Tell]:
        """Gives the function that tells; the name leaves the board at the end, however it ends."""
        since = time.monotonic()

        def tell(words: str, fraction: float | None = None) -> None:
            with self._lock:
                self._now[name] = Progress(name, words, fraction, since)

        tell(f"Loading {name}")
        try:
            yield tell
        finally:
            with self._lock:
                self._now.pop(name, None)


@contextmanager
def telling_weights(name: str, tell: Tell) -> Iterator[None]:
    """While open, what transformers reads in this thread is told by tensor."""
    from transformers.utils import logging

    thread = threading.get_ident()

    def hook(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bar = factory(*args, **kwargs)
        items = args[0] if args else kwargs.get("iterable")
        if threading.get_ident() != thread or not hasattr(items, "__len__") or not len(items):
            return bar
        return _Counted(bar, len(items), lambda share: tell(f"Loading the weights of {name}", share))

    before = logging.set_tqdm_hook(hook)
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


class _Counted:
    """A progress bar that also tells the share of what was iterated."""

    def __init__(self, bar: Any, total: int, tell: Callable[[float], None]) -> None:
        self._bar, self._total, self._tell = bar, total, tell

    def __iter__(self) -> Iterator[Any]:
        for number, item in enumerate(self._bar):
            self._tell(number / self._total)
            yield item
        self._tell(1.0)

    def __enter__(self) -> _Counted:
        self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._bar.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)
