"""Judgements already paid for, by the content that was judged: one small file each, safe between processes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from wavalign.rewards.protocol import checked


class JudgementCache:
    """A folder of JSON files named by their key; ``folder`` None remembers nothing.

    Only scores that count are kept: a failure is asked again.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @staticmethod
    def key(*content: str | bytes) -> str:
        """A SHA-256 over the parts and their borders."""
        digest = hashlib.sha256()
        for part in content:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()

    def get(self, key: str) -> float | None:
        """The remembered score; None when there is none, or its file is damaged (it is then asked again)."""
        try:
            return checked(float((self.entry(key) or {})["score"]))
        except (ValueError, KeyError, TypeError):
            return None

    def entry(self, key: str) -> dict[str, Any] | None:
        """All that was remembered (the score on its own scale, and what is kept beside it); None as in ``get``."""
        if self.folder is None:
            return None
        try:
            entry = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return entry if isinstance(entry, dict) else None

    def put(self, key: str, score: float, **about: Any) -> None:
        """Remembers a score; ``about`` (the judge's words, its model) is kept beside it for people to read."""
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
        temporary.write_text(json.dumps({"score": score, **about}, ensure_ascii=False), encoding="utf-8")
        temporary.replace(path)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
