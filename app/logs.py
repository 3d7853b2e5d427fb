"""What the host reads while the app runs: sentences as they are, or JSON lines where WAVALIGN_LOG is ``json``.

A line never holds a key, a visitor's address or a visitor's words: of an exception it says which and where, not its
message.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

VARIABLE = "WAVALIGN_LOG"
HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|API_KEY|DATABASE", re.IGNORECASE)
_PATTERNS = (
    re.compile(r"\bhf_[A-Za-z0-9]{8,}"),
    re.compile(r"\bBearer\s+\S+", re.IGNORECASE),
    re.compile(r"\br1\.[A-Za-z0-9_-]{24}\.[0-9a-f]{64}"),
    re.compile(r"\b[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}"),  # a signed token
    re.compile(r"(?<=[?&]__sign=)[^\s&]+"),
)
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])")
_TRACEBACK = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s+File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)$')


class Scrubber:
    """Takes out what no log may hold: known secrets by value, tokens by their look, addresses of machines."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        secrets = {value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) >= 8}
        self._secrets = sorted(secrets, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return _ADDRESS.sub(lambda found: found[0] if _is_own(found[0]) else HIDDEN, text)


def say(sentence: str, event: str = "note", **facts: Any) -> None:
    """One line for the host; ``facts`` are plain values that only the JSON lines carry."""
    stream = sys.stdout
    if isinstance(stream, JsonLines):
        stream.record("info", event, sentence, **facts)
    else:
        print(Scrubber()(sentence), flush=True)


def configure(environment: Mapping[str, str] = os.environ) -> None:
    """Turns all that is printed into JSON lines, where the environment says so; to be called once, first.

    Raises:
        ValueError: when WAVALIGN_LOG is neither ``json`` nor ``plain``.
    """
    kind = environment.get(VARIABLE) or "plain"
    if kind not in ("plain", "json"):
        raise ValueError(f"{VARIABLE} must be json or plain, got {kind!r}.")
    if kind == "json" and not isinstance(sys.stdout, JsonLines):
        scrub = Scrubber(environment)
        sys.stdout, sys.stderr = JsonLines(sys.stdout, "info", scrub), JsonLines(sys.stderr, "warning", scrub)


class JsonLines:
    """A text stream that writes every line as one JSON object, and every traceback as one.

    What a thread writes is put together by itself, so that lines of two threads do not mix.
    """

    def __init__(self, stream: TextIO, level: str, scrub: Scrubber) -> None:
        self._stream, self._level, self._scrub = stream, level, scrub
        self._mine = threading.local()
        self._writing = threading.Lock()

    def write(self, text: str) -> int:
        whole, _, rest = (getattr(self._mine, "begun", "") + text).replace("\r", "\n").rpartition("\n")
        self._mine.begun = rest
        for line in whole.split("\n") if whole else ():
            self._line(line)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def record(self, level: str, event: str, message: str, **facts: Any) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": at, "level": level, "event": event, "message": self._scrub(message)}
        line = json.dumps(told | {name: value for name, value in facts.items() if name not in told}, default=str)
        with self._writing:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _line(self, line: str) -> None:
        frames = getattr(self._mine, "frames", None)
        if line.strip() == _TRACEBACK:
            self._mine.frames = []
        elif frames is not None:
            if line[:1].isspace() or not line:
                if found := _FRAME.match(line):
                    frames.append(f"{found['file']}:{found['line']} {found['function']}")
            else:
                self._mine.frames = None
                kind = line.partition(":")[0]
                self.record("error", "exception", kind, frames=[self._scrub(frame) for frame in frames])
        elif line.strip():
            self.record(self._level, "printed", line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def where(error: BaseException) -> str:
    """Which exception, and where in our code: what may be said of one in a log."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ + (f" in {frames[-1].name}" if frames else "")


def _is_own(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return True  # a time of day, a version: no address
    return address.is_loopback or address.is_unspecified
