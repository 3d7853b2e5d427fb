"""What a battle needs of checkpoints: who can meet, both replies at one time, and what was measured on them."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.battles import BattleError
from app.conversation import Asked
from app.matchmaking import Pair
from wavalign.dialogue import Dialogue, Reply

if TYPE_CHECKING:  # torch takes seconds to import: the page is up before it is
    from app.services import Services

OTHER = "other"


class Speakers(Protocol):
    """Faked in tests; ``LoadedSpeakers`` in the app."""

    def pairs(self) -> Sequence[Pair]:
        """Checkpoints that can meet, two by two."""

    def revision(self, name: str) -> str | None:
        """Tells these weights from others of the same name."""

    def sampling(self, name: str, seed: int) -> Mapping[str, Any]:
        """Settings of one reply, as plain values."""

    def reply(
        self,
        names: tuple[str, str],
        dialogues: tuple[Dialogue, Dialogue],
        settings: tuple[Mapping[str, Any], Mapping[str, Any]],
        stop: threading.Event | None,
    ) -> tuple[Reply, Reply]:
        """Both replies, made together, handed over together."""

    def measure(self, reply: Reply) -> Mapping[str, float | str]:
        """Numbers by name; what cannot be measured is left out."""

    def hear(self, asked: Asked) -> str | None:
        """The words of a spoken turn, or None."""

    def category(self, words: Sequence[str]) -> str:
        """What the last of the user's turns is about, for boards by category."""


class LoadedSpeakers:
    """The app's checkpoints and senses."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._revisions: dict[tuple[str, int, int], str] = {}

    def pairs(self) -> Sequence[Pair]:
        from wavalign.models.protocol import CheckpointError

        names = []
        for name in self._services.registry.names():
            try:
                if self._services.registry.checkpoint(name).arena and self._services.registry.is_ready(name):
                    names.append(name)
            except CheckpointError:
                continue  # a broken checkpoint takes part in nothing; the Talk page says what is wrong with it
        return list(combinations(sorted(names), 2))

    def revision(self, name: str) -> str | None:
        checkpoint = self._services.registry.checkpoint(name)
        digest = hashlib.sha256()
        entry = self._services.registry.entry(name)
        if entry is not None and entry.remote is not None:
            digest.update(entry.remote.model_dump_json().encode())
            return digest.hexdigest()[:16]
        for folder in filter(None, (checkpoint.base, checkpoint.adapter)):
            for path in sorted(Path(folder).glob("*.safetensors")):
                digest.update(self._digest(path).encode())
        return digest.hexdigest()[:16]

    def sampling(self, name: str, seed: int) -> Mapping[str, Any]:
        sampling = self._services.default_sampling(name)
        longest = min(sampling.max_seconds, self._services.settings.limits.reply_seconds)
        return asdict(replace(sampling, max_seconds=longest, seed=seed))

    def reply(
        self,
        names: tuple[str, str],
        dialogues: tuple[Dialogue, Dialogue],
        settings: tuple[Mapping[str, Any], Mapping[str, Any]],
        stop: threading.Event | None,
    ) -> tuple[Reply, Reply]:
        from app.borrowing import BorrowError
        from wavalign.models.protocol import Request, Sampling

        model = self._services.answering(names).model
        requests = [
            Request(dialogue, name, Sampling(**each))
            for name, dialogue, each in zip(names, dialogues, settings, strict=True)
        ]
        try:
            left, right = model.reply_many(requests, stop)
        except BorrowError as error:  # no side's fault, and no checkpoint's name in it
            raise BattleError("gpu", str(error)) from error
        return left, right

    def measure(self, reply: Reply) -> Mapping[str, float | str]:
        figures, delivery = self._services.senses.gauge(reply)
        if not reply.tokens:  # of a remote checkpoint: the recogniser knows only the small world's words
            figures, delivery = replace(figures, word_error_rate=None), None
        found = {name: value for name, value in asdict(figures).items() if value is not None and math.isfinite(value)}
        return found | ({"delivery": delivery} if delivery else {})

    def hear(self, asked: Asked) -> str | None:
        if asked.turn.speech is None:
            return None
        heard = self._services.senses.hear(asked.turn.speech)
        return heard.text if heard else None

    def category(self, words: Sequence[str]) -> str:
        from wavalign.closedtalk.understanding import Question, understand

        questions: list[Question] = []
        question = None
        for each in words:
            question = understand(each, questions)
            if question is not None:
                questions.append(question)
        return question.item.family if question is not None else OTHER

    def _digest(self, path: Path) -> str:
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in self._revisions:
            with path.open("rb") as file:
                self._revisions[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._revisions[key]
