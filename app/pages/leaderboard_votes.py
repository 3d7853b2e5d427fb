"""From the store to boards: reads the votes of one source, rates them, and keeps the result until votes change."""

from __future__ import annotations

import itertools
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import select

from app.services import DEFAULT_CHECKPOINT
from app.store import Store, queries
from app.store.queries import COVARIATES, VoteRecord
from app.store.schema import TurnRow
from evaluation.rating_board import Board, Repeats, make_board
from evaluation.rating_votes import OUTCOMES, Votes

Source = Literal["human", "simulated"]
SOURCES: tuple[Source, ...] = ("human", "simulated")
SETTLED_SECONDS = 30.0
"""A vote is shown after the time in which it could be undone: before, the board would tell who was who."""
DIMENSIONS = ("helpfulness", "naturalness")
_KEPT = 12


@dataclass(frozen=True)
class Ballots:
    """The counted votes of one source, oldest first, with what else was said: excluded votes among ``all``."""

    source: Source
    counted: tuple[VoteRecord, ...]
    all: tuple[VoteRecord, ...]
    prompts: dict[str, str]
    """What was asked first, by battle."""
    state: int = 0
    """Another one whenever the votes were read anew."""

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Those with votes, the one with the most first."""
        names = [name for each in self.counted for name in (each.left, each.right)]
        return tuple(sorted(set(names), key=lambda name: (-names.count(name), name)))

    @property
    def anchor(self) -> str:
        """What others are compared with unless somebody chooses: the embedded base, else the most voted on."""
        return DEFAULT_CHECKPOINT if DEFAULT_CHECKPOINT in self.checkpoints else self.checkpoints[0]

    def excluded(self) -> dict[str, int]:
        """How many votes do not count, by reason."""
        reasons = [(each.excluded or "").split(":")[0] for each in self.all if each.excluded]
        return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    def lost(self, checkpoint: str, anchor: str) -> tuple[VoteRecord, ...]:
        """Votes that preferred ``anchor`` to ``checkpoint``, the clearest first, then the latest."""
        sides = {"left": (anchor, checkpoint), "right": (checkpoint, anchor)}
        found = [each for each in self.counted if sides.get(each.outcome) == (each.left, each.right)]
        return tuple(sorted(found, key=lambda each: (-abs(each.strength), -each.at)))


class Boards:
    """One for all visitors. Boards are computed once for each state of the votes."""

    def __init__(self, store: Callable[[], Store], clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._states = itertools.count(1)
        self._ballots: dict[Source, tuple[str, float, Ballots]] = {}
        self._boards: dict[tuple[int, str], Board] = {}

    def ballots(self, source: Source) -> Ballots:
        """The settled votes of a source.

        Raises:
            StoreError: the database cannot be used.
        """
        store = self._store()
        with self._lock:
            return self._read(store, source)

    def board(self, ballots: Ballots, anchor: str) -> Board:
        """The board of these ballots against ``anchor``."""
        key = (ballots.state, anchor)
        with self._lock:
            if key not in self._boards:
                if len(self._boards) >= _KEPT:
                    self._boards.clear()
                self._boards[key] = make_board(as_votes(ballots), anchor, repeats_of(ballots))
            return self._boards[key]

    def _read(self, store: Store, source: Source) -> Ballots:
        version, now = queries.version(store), self._clock()
        known = self._ballots.get(source)
        if known is not None and known[0] == version and now < known[1]:
            return known[2]
        records = queries.votes(store, source=source, counted_only=False)
        settled = [each for each in records if each.at <= now - SETTLED_SECONDS]
        held_back = [each.at for each in records if each.at > now - SETTLED_SECONDS]
        until = min(held_back, default=math.inf) + SETTLED_SECONDS
        counted = tuple(each for each in settled if each.excluded is None)
        ballots = Ballots(source, counted, tuple(settled), _prompts(store), next(self._states))
        self._ballots[source] = (version, until, ballots)
        return ballots


def as_votes(ballots: Ballots) -> Votes:
    """The counted votes as arrays."""
    rows, names = ballots.counted, ballots.checkpoints
    place = {name: index for index, name in enumerate(names)}
    return Votes(
        checkpoints=names,
        left=np.array([place[each.left] for each in rows], dtype=int),
        right=np.array([place[each.right] for each in rows], dtype=int),
        outcome=np.array([OUTCOMES.index(each.outcome) for each in rows], dtype=int),
        strength=np.array([each.strength for each in rows], dtype=int),
        rater=np.array([each.rater for each in rows], dtype=str),
        source=np.array([each.source for each in rows], dtype=str) if rows else ballots.source,
        covariates={name: _column([each.covariates.get(name) for each in rows]) for name in COVARIATES},
        dimensions={name: _column([getattr(each, name) for each in rows]) for name in DIMENSIONS},
        unit=np.array([_unit(ballots.prompts.get(each.battle, ""), each.turns) for each in rows], dtype=object),
        category=np.array([each.category for each in rows], dtype=object),
        battle=np.array([each.battle for each in rows], dtype=object),
    )


def repeats_of(ballots: Ballots) -> Repeats | None:
    """Battles that came again with sides swapped, both votes standing; None without any."""
    first = {each.battle: each for each in ballots.counted}
    pairs = [(first[each.repeat_of], each) for each in ballots.all if _is_repeat(each) and each.repeat_of in first]
    pairs = [pair for pair in pairs if "both_bad" not in (pair[0].outcome, pair[1].outcome)]
    if not pairs:
        return None
    return Repeats(
        np.array([before.strength for before, _ in pairs]),
        np.array([-again.strength for _, again in pairs]),
        np.array([again.rater for _, again in pairs]),
    )


def _is_repeat(record: VoteRecord) -> bool:
    return record.kind == "repeat" and record.excluded == "repeat"


def _prompts(store: Store) -> dict[str, str]:
    with store.reading() as session:
        rows = session.execute(select(TurnRow.battle, TurnRow.typed, TurnRow.heard).where(TurnRow.number == 0))
        return {battle: typed or heard or "" for battle, typed, heard in rows}


def _unit(prompt: str, turns: int) -> str:
    """The same for the same question, however it is written; dialogues of several turns are all different."""
    return " ".join(re.findall(r"\w+", prompt.lower())) if turns == 1 else ""


def _column(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=float)
