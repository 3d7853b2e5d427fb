"""Everything that a board of checkpoints shows, computed once from votes of one source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from evaluation.agreement import alpha_estimate, self_consistency
from evaluation.evidence import Evidence, gather
from evaluation.intervals import Estimate
from evaluation.rating_intervals import DRAWS, Rated, both_bad, ranks, rate
from evaluation.rating_votes import BOTH_BAD, LEFT, RIGHT, TIE, Votes, VotesError
from evaluation.ratings import logistic

FEWEST_OF_A_KIND = 5
"""Votes below which a dimension or category is not fitted; the board says how many there are."""


@dataclass(frozen=True)
class Repeats:
    """Battles voted on twice by the same rater: strengths (n,) of first and second vote, sides put back, and raters."""

    first: np.ndarray
    second: np.ndarray
    rater: np.ndarray


@dataclass(frozen=True)
class Standing:
    """One line of the board. ``preferred``: its share of decided votes against the anchor; None for the anchor itself.

    ``best``, ``worst``: ranks, 1 the first, all of which hold together with 95 %. ``both_bad``: share of its battles.
    """

    checkpoint: str
    best: int
    worst: int
    preferred: Estimate | None
    both_bad: Estimate | None
    votes: int


@dataclass(frozen=True)
class Comparison:
    """A checkpoint against the anchor in one dimension, category or adjustment; None with too few ``votes``."""

    aspect: str
    checkpoint: str
    preferred: Estimate | None
    votes: int


@dataclass(frozen=True)
class Board:
    """Standings best first. ``wins`` (m, m): decided votes of the row over the column; ``ties`` (m, m) symmetric.

    ``left_share``: share of decided votes that the left side would get between equals. ``tie_share``: between equals.
    ``evidence``: each checkpoint against the anchor. ``agreement``: Krippendorff's alpha over prompts that two raters
    or more judged; ``consistency``: how often a rater says the same when a battle comes again, sides swapped.
    ``adjusted``: against the anchor as if both replies were alike in the covariates; ``effects``: logits per standard
    deviation of each; both empty where the votes carry no covariates.
    """

    source: str
    anchor: str
    standings: tuple[Standing, ...]
    wins: np.ndarray
    ties: np.ndarray
    votes: int
    raters: int
    decided: int
    left_share: Estimate
    tie_share: float
    evidence: tuple[Evidence, ...]
    dimensions: tuple[Comparison, ...]
    categories: tuple[Comparison, ...]
    adjusted: tuple[Comparison, ...]
    effects: Mapping[str, Estimate] = field(default_factory=dict)
    agreement: Estimate | None = None
    consistency: Estimate | None = None
    repeats: int = 0

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return tuple(each.checkpoint for each in self.standings)

    def evidence_of(self, checkpoint: str) -> Evidence:
        return next(each for each in self.evidence if each.checkpoint == checkpoint)

    def standing_of(self, checkpoint: str) -> Standing:
        return next(each for each in self.standings if each.checkpoint == checkpoint)


def make_board(votes: Votes, anchor: str, repeats: Repeats | None = None, draws: int = DRAWS, seed: int = 0) -> Board:
    """Rates all checkpoints that have votes, with everything measured against ``anchor``.

    Raises:
        VotesError: no votes, or none for the anchor.
    """
    votes = _only_voted_on(votes)
    if anchor not in votes.checkpoints:
        raise VotesError(f"There are no votes on {anchor!r} to compare with.")
    rated = rate(votes, draws=draws, seed=seed)
    best, worst = ranks(rated)
    order = np.argsort(-rated.ratings.rating, kind="stable")
    names = [votes.checkpoints[index] for index in order]
    battles = Counter(votes.left.tolist()) + Counter(votes.right.tolist())
    standings = tuple(
        Standing(
            votes.checkpoints[i],
            int(best[i]),
            int(worst[i]),
            _preferred(rated, votes.checkpoints[i], anchor),
            both_bad(votes, votes.checkpoints[i]),
            battles[i],
        )
        for i in order
    )
    wins, ties = _head_to_head(votes)
    adjusted, effects = _adjusted(votes, names, anchor, draws, seed)
    nu = np.exp(rated.ratings.ties)
    return Board(
        source=str(votes.source),
        anchor=anchor,
        standings=standings,
        wins=wins[np.ix_(order, order)],
        ties=ties[np.ix_(order, order)],
        votes=len(votes),
        raters=votes.rater_index()[1],
        decided=int((votes.outcome <= RIGHT).sum()),
        left_share=_share(rated.position()),
        tie_share=float(nu / (2 + nu)),
        evidence=tuple(_evidence(votes, name, anchor) for name in names if name != anchor),
        dimensions=_by_dimension(votes, names, anchor, draws, seed),
        categories=_by_category(votes, names, anchor, draws, seed),
        adjusted=adjusted,
        effects=effects,
        agreement=_agreement(votes),
        consistency=self_consistency(repeats.first, repeats.second, repeats.rater) if repeats else None,
        repeats=len(repeats.first) if repeats else 0,
    )


def _only_voted_on(votes: Votes) -> Votes:
    seen = np.unique(np.concatenate([votes.left, votes.right]))
    if not len(seen):
        raise VotesError("There are no votes yet.")
    place = np.full(len(votes.checkpoints), -1)
    place[seen] = np.arange(len(seen))
    return votes.with_checkpoints(tuple(votes.checkpoints[i] for i in seen), place)


def _preferred(rated: Rated, checkpoint: str, anchor: str) -> Estimate | None:
    return None if checkpoint == anchor else _share(rated.gap(checkpoint, anchor))


def _share(logits: Estimate) -> Estimate:
    value, low, high = (float(logistic(each)) for each in (logits.value, logits.low, logits.high))
    return Estimate(value, low, high, logits.n)


def _head_to_head(votes: Votes) -> tuple[np.ndarray, np.ndarray]:
    m = len(votes.checkpoints)
    wins, ties = np.zeros((m, m), dtype=int), np.zeros((m, m), dtype=int)
    for outcome, table, row, column in (
        (LEFT, wins, votes.left, votes.right),
        (RIGHT, wins, votes.right, votes.left),
        (TIE, ties, votes.left, votes.right),
        (TIE, ties, votes.right, votes.left),
    ):
        chosen = votes.outcome == outcome
        np.add.at(table, (row[chosen], column[chosen]), 1)
    return wins, ties


def _evidence(votes: Votes, checkpoint: str, anchor: str) -> Evidence:
    met = votes.between(checkpoint, anchor)
    side = np.where(met.left == votes.checkpoints.index(checkpoint), 1, -1)
    return gather(checkpoint, anchor, side * np.sign(met.strength), met.rater_index()[0])


def _by_dimension(votes: Votes, names: list[str], anchor: str, draws: int, seed: int) -> tuple[Comparison, ...]:
    parts = {name: votes.of_dimension(name) for name in votes.dimensions}
    return tuple(each for name, part in parts.items() for each in _aspect(name, part, names, anchor, draws, seed))


def _by_category(votes: Votes, names: list[str], anchor: str, draws: int, seed: int) -> tuple[Comparison, ...]:
    if votes.category is None:
        return ()
    kinds = [kind for kind, _ in Counter(str(each) for each in votes.category).most_common() if kind]
    return tuple(
        each
        for kind in kinds
        for each in _aspect(kind, votes.where(votes.category == kind), names, anchor, draws, seed)
    )


def _aspect(aspect: str, votes: Votes, names: list[str], anchor: str, draws: int, seed: int) -> list[Comparison]:
    """Fits the votes of one aspect; a checkpoint with too few against anybody there is left without a share."""
    usable = votes.outcome != BOTH_BAD
    rated = rate(votes, draws=draws, seed=seed) if usable.sum() >= FEWEST_OF_A_KIND else None
    found = []
    for name in names:
        if name == anchor:
            continue
        index = votes.checkpoints.index(name)
        own = int((usable & ((votes.left == index) | (votes.right == index))).sum())
        known = rated is not None and own >= FEWEST_OF_A_KIND
        found.append(Comparison(aspect, name, _preferred(rated, name, anchor) if known else None, own))
    return found


def _adjusted(
    votes: Votes, names: list[str], anchor: str, draws: int, seed: int
) -> tuple[tuple[Comparison, ...], dict[str, Estimate]]:
    """Covariates that never vary, or are known in less than half of the votes, are left out; so are votes without."""
    known = {name: np.isfinite(values) for name, values in votes.covariates.items()}
    moving = [name for name, here in known.items() if here.mean() >= 0.5 and np.ptp(votes.covariates[name][here]) > 0]
    usable = votes.where(np.all([votes.outcome != BOTH_BAD, *(known[name] for name in moving)], axis=0))
    if not moving or len(usable) < FEWEST_OF_A_KIND * (1 + len(moving)):
        return (), {}
    rated = rate(usable, tuple(moving), draws=draws, seed=seed)
    shown = tuple(
        Comparison("adjusted", name, _preferred(rated, name, anchor), len(usable)) for name in names if name != anchor
    )
    return shown, rated.effects()


def _agreement(votes: Votes) -> Estimate | None:
    """Over (prompt, pair), each rater's first judgement, positive for the checkpoint that comes first by index."""
    if votes.unit is None:
        return None
    low, high = np.minimum(votes.left, votes.right), np.maximum(votes.left, votes.right)
    value = np.where(votes.left == low, votes.strength, -votes.strength)
    first: dict[tuple[object, ...], tuple[float, str]] = {}
    for index in np.flatnonzero((votes.outcome != BOTH_BAD) & (votes.unit != "")):
        judged = f"{low[index]}|{high[index]}|{votes.unit[index]}"
        first.setdefault((judged, votes.rater[index]), (float(value[index]), judged))
    if not first:
        return None
    values, units = zip(*first.values(), strict=True)
    return alpha_estimate(np.array(values), units)
