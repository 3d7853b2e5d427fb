"""Votes as arrays: what was shown on which side, what was said about it, by whom. The input of every rating.

The *presented* sides are kept, never only winner and loser: without them a preference for the left side cannot be told
from a preference for a checkpoint. Human and simulated votes never stand in one ``Votes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

LEFT, RIGHT, TIE, BOTH_BAD = 0, 1, 2, 3
OUTCOMES = ("left", "right", "tie", "both_bad")
"""Names of the codes in ``Votes.outcome``."""
STRONGEST = 3


class VotesError(ValueError):
    """Votes that cannot be rated; one sentence says why."""


@dataclass(frozen=True)
class Votes:
    """``n`` votes in the order in which they were cast. Positive is left, everywhere.

    checkpoints: the names that ``left`` and ``right`` (n,) point into.
    outcome (n,): LEFT, RIGHT, TIE or BOTH_BAD, as presented.
    strength (n,): 3 left is much better, 2 better, 1 slightly; -1 to -3 right; 0 for a tie and for both bad.
    rater (n,): a pseudonym, whole number or text; votes of one rater are not independent.
    source: where the votes come from ("human", "simulated"), one for all; an array (n,) is checked to hold only one.
    covariates: name -> (n,) left minus right, as log duration ratio, difference in loudness; NaN where unknown.
    dimensions: name -> (n,) of a further question: 1 left is better, 0 no difference, -1 right, NaN not answered.
    unit (n,): what was judged, the same text for the same prompt; empty where a prompt was used once only.
    category (n,): the kind of prompt; empty where unknown.
    battle (n,): the id of the battle, for looking things up.

    Raises:
        VotesError: lengths that differ, codes that do not exist, a checkpoint against itself, mixed sources.
    """

    checkpoints: tuple[str, ...]
    left: np.ndarray
    right: np.ndarray
    outcome: np.ndarray
    strength: np.ndarray
    rater: np.ndarray
    source: str | np.ndarray
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)
    dimensions: Mapping[str, np.ndarray] = field(default_factory=dict)
    unit: np.ndarray | None = None
    category: np.ndarray | None = None
    battle: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("left", "right", "outcome", "strength"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        object.__setattr__(self, "rater", np.asarray(self.rater))
        for name in ("unit", "category", "battle"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=object))
        object.__setattr__(self, "covariates", {k: np.asarray(v, dtype=float) for k, v in self.covariates.items()})
        object.__setattr__(self, "dimensions", {k: np.asarray(v, dtype=float) for k, v in self.dimensions.items()})
        self._check()
        object.__setattr__(self, "source", _only_source(self.source))

    def __len__(self) -> int:
        return len(self.left)

    def where(self, chosen: np.ndarray) -> Votes:
        """The votes that ``chosen`` (n,) bool or indices picks, their order kept."""
        parts = {name: getattr(self, name)[chosen] for name in ("left", "right", "outcome", "strength", "rater")}
        for name in ("unit", "category", "battle"):
            if getattr(self, name) is not None:
                parts[name] = getattr(self, name)[chosen]
        parts["covariates"] = {name: values[chosen] for name, values in self.covariates.items()}
        parts["dimensions"] = {name: values[chosen] for name, values in self.dimensions.items()}
        return replace(self, **parts)

    def with_checkpoints(self, names: tuple[str, ...], place: np.ndarray) -> Votes:
        """The same votes with checkpoint i renumbered to ``place[i]`` of ``names``."""
        return replace(self, checkpoints=names, left=place[self.left], right=place[self.right])

    def of_dimension(self, name: str) -> Votes:
        """What was answered to a further question, as votes of their own."""
        asked = np.isfinite(self.dimensions[name])
        answers = self.dimensions[name][asked].astype(int)
        outcome = np.array([TIE, LEFT, RIGHT])[answers]  # -1 counts from the end
        return replace(self.where(asked), outcome=outcome, strength=answers, dimensions={})

    def between(self, one: str, other: str) -> Votes:
        """The votes in which these two met."""
        a, b = self.checkpoints.index(one), self.checkpoints.index(other)
        met = ((self.left == a) & (self.right == b)) | ((self.left == b) & (self.right == a))
        return self.where(met)

    def rater_index(self) -> tuple[np.ndarray, int]:
        """(n,) numbers 0..raters-1 in place of pseudonyms, and how many raters there are."""
        names, index = np.unique(self.rater, return_inverse=True)
        return index.reshape(-1), len(names)

    def _check(self) -> None:
        n, known = len(self.left), len(self.checkpoints)
        lengths = {name: len(values) for name, values in self._columns().items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            name, length = next(iter(wrong.items()))
            raise VotesError(f"There are {n} votes, but {length} values of {name!r}.")
        if len(set(self.checkpoints)) != known:
            raise VotesError(f"A checkpoint is named twice: {', '.join(self.checkpoints)}.")
        if n == 0:
            return
        for name, values in (("left", self.left), ("right", self.right)):
            if values.min() < 0 or values.max() >= known:
                raise VotesError(f"{name!r} points beyond the {known} checkpoints.")
        if (self.left == self.right).any():
            raise VotesError(f"Vote {int(np.argmax(self.left == self.right))} sets a checkpoint against itself.")
        if self.outcome.min() < 0 or self.outcome.max() > BOTH_BAD:
            raise VotesError(f"An outcome must be one of {', '.join(OUTCOMES)} (0 to {BOTH_BAD}).")
        if np.abs(self.strength).max() > STRONGEST:
            raise VotesError(f"A strength must lie between -{STRONGEST} and {STRONGEST}.")
        if (np.sign(self.strength) != np.array([1, -1, 0, 0])[self.outcome]).any():
            raise VotesError("A strength must be positive for left, negative for right, 0 for a tie and for both bad.")
        for name, values in self.dimensions.items():
            if not np.isin(values[~np.isnan(values)], (-1, 0, 1)).all():
                raise VotesError(f"The dimension {name!r} holds values other than -1, 0, 1 and NaN.")

    def _columns(self) -> dict[str, np.ndarray]:
        columns = {name: getattr(self, name) for name in ("right", "outcome", "strength", "rater")}
        columns |= {name: getattr(self, name) for name in ("unit", "category", "battle")}
        columns |= dict(self.covariates) | dict(self.dimensions)
        if not isinstance(self.source, str):
            columns["source"] = np.asarray(self.source)
        return {name: values for name, values in columns.items() if values is not None}


def _whole(name: str, values: np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    number = np.issubdtype(array.dtype, np.number)
    if array.size and (not number or (array != np.floor(array)).any()):
        raise VotesError(f"{name!r} must hold whole numbers, got {array.dtype}.")
    if array.ndim != 1:
        raise VotesError(f"{name!r} must be one column, got shape {array.shape}.")
    return array.astype(np.int64, copy=False)


def _only_source(source: str | np.ndarray) -> str:
    if isinstance(source, str):
        kinds = [source]
    else:
        kinds = sorted({str(each) for each in np.unique(np.asarray(source, dtype=object).astype(str))})
    if len(kinds) > 1:
        raise VotesError(
            f"Votes of different sources are never rated together: {', '.join(kinds)}. Choose one of them."
        )
    if not kinds or not kinds[0]:
        raise VotesError('The source of the votes is missing: name it, for example "human" or "simulated".')
    return kinds[0]
