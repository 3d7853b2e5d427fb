"""What post-training learns from: a prompt, and what is known about good and bad replies to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue

Speech = Waveform | tuple[int, ...]
"""Speech as it was recorded, or as the codec's codes."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Example:
    """One prompt to answer.

    ``prompt`` ends with a user turn. ``target_*`` is the demonstration that the anchor imitates (either part may be
    missing: a row without both cannot be an anchor), ``rejected_*`` a worse reply to the same prompt. ``task`` says
    what the prompt is about ("semantic", "acoustic", "both", or a data set's own name). ``question_text`` is what a
    judge is told the user said. ``facts`` is what a rule needs to know; ClosedTalk: ``item``, ``delivery``,
    ``family``, ``tone``, ``requested``.
    """

    id: str
    prompt: Dialogue
    target_text: str | None = None
    target_speech: Speech | None = None
    rejected_text: str | None = None
    rejected_speech: Speech | None = None
    task: str = "both"
    question_text: str | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def __post_init__(self) -> None:
        if not self.prompt.turns or self.prompt.turns[-1].role != "user":
            raise ValueError(f"The prompt of example {self.id} must end with a user turn.")

    @property
    def has_target(self) -> bool:
        """Whether it can be an anchor: a spoken model's target needs words and sound."""
        return bool(self.target_text) and self.target_speech is not None

    @property
    def has_rejected(self) -> bool:
        """Whether it is a preference pair as it stands: a whole target and a whole rejected reply."""
        return self.has_target and bool(self.rejected_text) and self.rejected_speech is not None


class DataError(ValueError):
    """Training data that cannot be used; the message is one sentence that says where and why."""


@dataclass(frozen=True)
class UnreadableRow:
    """A row that was left out: the file, its line (or row) counted from 1, and one sentence that says why."""

    file: Path | str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Entry:
    """One example that is read when it is asked for; ``id`` and ``task`` are known before."""

    id: str
    task: str
    load: Callable[[], Example]


class Examples(Sequence[Example]):
    """Examples in the order of their source, each read when it is asked for; ``ids`` are known without reading.

    ``unreadable`` lists the rows that were left out.
    """

    def __init__(self, entries: Sequence[Entry | Example], unreadable: Sequence[UnreadableRow] = ()) -> None:
        self._entries = tuple(entries)
        self.unreadable = tuple(unreadable)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(entry.id for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> Examples: ...

    def __getitem__(self, index: int | slice) -> Example | Examples:
        if isinstance(index, slice):
            return Examples(self._entries[index], self.unreadable)
        entry = self._entries[index]
        return entry if isinstance(entry, Example) else entry.load()
