"""What an evaluation task is: prompts that a checkpoint answers, and a way to score what it said."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue
from wavalign.rewards.config import JudgeConfig


class TaskError(RuntimeError):
    """A task that cannot be built, read or scored as a whole; the message is one sentence and says what to do."""


@dataclass(frozen=True)
class MetricInfo:
    """One number per reply. ``low`` and ``high`` bound it (None: open); ``better`` None where neither end is better.

    ``unit`` "%" takes shares 0..1; ``caveat`` is what a reader must know before believing it.
    """

    name: str
    unit: str
    low: float | None
    high: float | None
    better: Literal["higher", "lower"] | None
    caveat: str = ""


@dataclass(frozen=True)
class Item:
    """One prompt. ``id`` is unique within its task and stable across runs; ``dialogue`` ends with a user turn.

    ``category`` is what a report breaks figures down by first (a family, a subset); ``facts`` is what scoring needs
    and further breakdowns.
    """

    id: str
    category: str
    dialogue: Dialogue
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Said:
    """One reply: its text channel, the words recognised in its speech, and the speech itself.

    ``transcript`` and ``waveform`` are None where they were not made. ``seed`` is the one the reply was sampled with.
    """

    text: str
    transcript: str | None = None
    waveform: Waveform | None = None
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """The scores of one reply, every metric of the task a key of ``values``.

    None is never a zero: with a reason in ``failed`` the score was tried and failed (a judge that did not answer) and
    must be counted as failed; without one the metric does not apply to this item. ``about`` is stored beside the
    scores: the judge's model, the hash of its prompt, its words, what a rule extracted.
    """

    values: Mapping[str, float | None]
    failed: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskContext:
    """What tasks are built from. ``data`` is task name -> folder or hub id of a data set that is not shipped.

    ``cache`` is a folder of judgements already paid for; ``stop``, when set, ends waiting for a judge.
    """

    assets: Path
    data: Mapping[str, str] = field(default_factory=dict)
    judge: JudgeConfig | None = None
    cache: Path | None = None
    stop: threading.Event | None = None


class Task(Protocol):
    """A benchmark. Built by ``registry.create(name, context)``; building one reads no data and asks no judge.

    ``metrics[0]`` is the headline. ``breakdowns`` are names of facts that figures are broken down by besides the
    category. ``needs`` says which optional parts of ``Said`` its scores are made from.
    """

    name: str
    metrics: tuple[MetricInfo, ...]
    breakdowns: tuple[str, ...]
    needs: frozenset[Literal["transcript", "waveform"]]

    def items(self, limit: int | None = None, seed: int = 0) -> Sequence[Item]:
        """The prompts; with a ``limit`` that many in all, drawn by ``seed``; subsets of a benchmark take turns.

        Raises:
            TaskError: when the data set is missing or not in its schema, or a judge will be needed and none is given;
                also when an item is read whose recording is broken.
        """
        ...

    def score(self, pairs: Sequence[tuple[Item, Said]]) -> list[Scored]:
        """One for each pair, in order.

        Raises:
            TaskError: when nothing can be scored (no judge given, a judge that refuses the key).
        """
        ...

    def summary(self, rows: Sequence[tuple[Item, Scored]]) -> Mapping[str, float]:
        """The official aggregates where there are any ("overall"); a part that was not run or failed whole is absent.

        Without failures and missing parts this is the published formula; nothing is filled in for either. Of the items
        only the category and the facts in ``breakdowns`` (as text) are looked at.
        """
        ...

    def judges(self) -> Mapping[str, Any]:
        """What scored: per judged metric the model, the prompt's hash and the endpoint; empty for rules."""
        ...
