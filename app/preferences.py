"""The votes as they are browsed: filtered, page by page, with what was asked and both replies to listen to.

Only votes that can no longer be undone are shown: whoever is still deciding must not find the names here.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import select

from app.battles import SIDES, Rules, Side
from app.export import ExportError, export
from app.export_rows import Row, Selection, View, rows
from app.store import Store, queries
from app.store.queries import LEVELS, VoteRecord
from app.store.reliability import reliabilities
from app.store.schema import ErasedBattle, TurnRow

SHAPES: tuple[View, ...] = ("battles", "preference", "unpaired")


class PreferenceError(ValueError):
    """What cannot be shown; the message is one sentence."""


@dataclass(frozen=True)
class Overview:
    """``consent``: votes by level; ``rows``: how many each shape of an export would have."""

    votes: int
    raters: int
    counted: int
    consent: Mapping[str, int]
    excluded: Mapping[str, int]
    pairs: tuple[tuple[str, str, int], ...]
    rows: Mapping[View, int]


@dataclass(frozen=True)
class Line:
    """One vote in the table. ``reliability`` is the rater's, 0..1."""

    vote: VoteRecord
    words: str
    reliability: float


@dataclass(frozen=True)
class Heard:
    """One turn to listen to: wav bytes; ``asked`` is None where it was typed."""

    words: str
    asked: bytes | None
    audio: Mapping[Side, bytes]
    text: Mapping[Side, str]


@dataclass
class Preferences:
    """``clock`` is wall time in seconds."""

    store: Store
    rules: Rules = field(default_factory=Rules)
    clock: Callable[[], float] = time.time
    _kept: tuple[tuple[str, Selection], list[VoteRecord]] | None = field(default=None, init=False)

    def overview(self, selection: Selection) -> Overview:
        """Numbers over all that is selected; the pairs are those of every vote that may be shown."""
        votes = self.votes(selection)
        everything = self.votes(Selection(selection.least_consent, selection.source))
        pairs = Counter(tuple(sorted((vote.left, vote.right))) for vote in everything)
        decided = [vote for vote in votes if vote.excluded is None]
        return Overview(
            votes=len(votes),
            raters=len({vote.rater for vote in votes}),
            counted=len(decided),
            consent={level: sum(vote.consent == level for vote in votes) for level in reversed(LEVELS[1:])},
            excluded=dict(Counter(vote.excluded for vote in votes if vote.excluded)),
            pairs=tuple((*pair, count) for pair, count in sorted(pairs.items())),
            rows={
                "battles": len(votes),
                "preference": sum(vote.outcome in SIDES for vote in decided),
                "unpaired": 2 * sum(vote.outcome != "tie" for vote in decided),
            },
        )

    def votes(self, selection: Selection) -> list[VoteRecord]:
        """What is selected and may be shown here, oldest first."""
        settled = self.clock() - self.rules.undo - 1
        key = (queries.version(self.store), selection)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, selection.of(queries.votes(self.store, counted_only=False))
        return [vote for vote in self._kept[1] if vote.at < settled]

    def lines(self, selection: Selection, first: int, count: int) -> list[Line]:
        """``count`` votes from number ``first`` on, newest first."""
        votes = self.votes(selection)[::-1][first : first + count]
        known = reliabilities(queries.votes(self.store, counted_only=False))
        with self.store.reading() as session:
            asked = session.scalars(
                select(TurnRow).where(TurnRow.number == 0, TurnRow.battle.in_([vote.battle for vote in votes]))
            )
            words = {turn.battle: _words(turn) for turn in asked}
        return [Line(vote, words.get(vote.battle, ""), known[vote.rater].score) for vote in votes]

    def listen(self, selection: Selection, battle: object) -> list[Heard]:
        """Every turn of one battle of the selection.

        Raises:
            PreferenceError: when it is not among them, or was erased.
        """
        if not isinstance(battle, str) or all(vote.battle != battle for vote in self.votes(selection)):
            raise PreferenceError("That dialogue is not here any more.")
        with self.store.reading() as session:
            erased = session.scalar(select(ErasedBattle.battle).where(ErasedBattle.battle == battle))
            turns = list(session.scalars(select(TurnRow).where(TurnRow.battle == battle).order_by(TurnRow.number)))
            asked = [(turn.number, _words(turn), turn.audio) for turn in turns]
        replies = {(each["turn"], each["side"]): each for each in queries.recordings(self.store, battle)}
        if erased or any(each["audio"] is None for each in replies.values()):
            raise PreferenceError("Its rater erased these recordings.")
        return [
            Heard(
                words,
                self.store.audio.get(audio) if audio else None,
                {side: replies[number, side]["audio"].read_bytes() for side in SIDES},
                {side: replies[number, side]["text"] for side in SIDES},
            )
            for number, words, audio in asked
        ]

    def preview(self, selection: Selection, shape: object) -> Row | None:
        """The newest row that an export of this shape would have; None when it would have none."""
        for vote in reversed(self.votes(selection)):
            row = next(rows(self.store, shape_of(shape), [vote]), None)
            if row is not None:
                return row
        return None

    def archive(self, selection: Selection, shape: object, path: Path) -> int:
        """Writes a zip of parquet files and the card to ``path``; returns the number of rows.

        Raises:
            PreferenceError: when there is nothing to export.
        """
        view = shape_of(shape)
        settled = self.clock() - self.rules.undo - 1
        until = settled if selection.until is None else min(selection.until, settled)
        selection = replace(selection, until=until)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
            folder = Path(scratch) / "dataset"
            try:
                # The words alone stand beside the audio, in the columns that TRL takes.
                views = (view,) if view == "battles" else (view, f"{view}_text")
                counts = export(self.store, folder, selection, views)
            except ExportError as error:
                raise PreferenceError("There is nothing to export with these filters.") from error
            made = shutil.make_archive(str(Path(scratch) / "dataset"), "zip", folder)
            Path(made).replace(path)
        return counts[view]


def shape_of(shape: object) -> View:
    """
    Raises:
        PreferenceError: when it is none.
    """
    if shape not in SHAPES:
        raise PreferenceError(f"Choose one of {', '.join(SHAPES)}.")
    return shape


def _words(turn: TurnRow) -> str:
    return turn.typed or turn.text or turn.heard or ""
