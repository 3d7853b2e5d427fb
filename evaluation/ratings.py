"""Ratings from pairwise votes: Bradley-Terry with Davidson's ties, a position effect, covariates and a Gaussian prior.

With d = rating(left) - rating(right) + position + covariates . effects, all in logits, and nu = exp(ties):

    P(left) : P(right) : P(tie)  =  exp(d/2) : exp(-d/2) : nu                  (Davidson 1970, J. Am. Stat. Assoc. 65)

The position effect is that of Davidson and Beaver (1977, Biometrics 33). Every parameter has a normal prior of mean 0,
so that six wins of six give a finite gap, and the posterior is strictly concave: Newton's method finds its one maximum.
Votes enter as counts per ordered pair, the model's sufficient statistics, so that a million votes cost what a hundred
do once they are counted. "Both bad" is no preference: it is not in these counts (see ``rating_intervals.both_bad``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.rating_votes import TIE, Votes, VotesError

_CLOSE = 1e-5
"""Logits: the last Newton step may be this long. What is left after it is of the order of its square."""
_LONGEST_STEP = 2.0
"""In logits: a longer Newton step can overshoot where the likelihood is nearly flat."""
_ROUNDS = 100
_AT_ONCE = 100_000
"""Cells times replicates that are solved in one go: what fits a processor's cache."""


@dataclass(frozen=True)
class Prior:
    """Standard deviations in logits. A gap between two checkpoints so has 2 sqrt(2) a priori: 95 % within 16 to 1.

    Covariates are divided by their standard deviation in the votes, so that one width suits all of them.
    """

    rating: float = 2.0
    position: float = 1.0
    ties: float = 2.0
    effect: float = 1.0

    def precision(self, checkpoints: int, covariates: int) -> np.ndarray:
        """(p,) for the parameters: ratings, position, ties, effects."""
        widths = [self.rating] * checkpoints + [self.position, self.ties] + [self.effect] * covariates
        return 1.0 / np.square(widths)


@dataclass(frozen=True)
class Cells:
    """Votes of one ordered pair (and one row of covariates) counted together; sorted by pair.

    left, right (c,); covariates (c, k), standardised; counts (c, 3) of left, right, tie; ``scales`` (k,) are the
    standard deviations that covariates were divided by; ``of_vote`` (n,) is each vote's cell, -1 for both bad.
    """

    checkpoints: int
    left: np.ndarray
    right: np.ndarray
    covariates: np.ndarray
    counts: np.ndarray
    scales: np.ndarray
    of_vote: np.ndarray

    @property
    def parameters(self) -> int:
        return self.checkpoints + 2 + self.covariates.shape[1]


@dataclass(frozen=True)
class Ratings:
    """The most likely parameters, all in logits, with the covariance of their normal approximation.

    rating (m,), mean 0; position > 0 favours the left side; ``ties`` is log nu; ``effects`` per standard deviation
    of each covariate. ``covariance`` (p, p) is of ``parameters`` (p,): ratings, position, ties, effects. It treats
    votes as independent.
    """

    checkpoints: tuple[str, ...]
    parameters: np.ndarray
    covariance: np.ndarray
    effect_names: tuple[str, ...]
    votes: int

    @property
    def rating(self) -> np.ndarray:
        return self.parameters[: len(self.checkpoints)]

    @property
    def position(self) -> float:
        return float(self.parameters[len(self.checkpoints)])

    @property
    def ties(self) -> float:
        return float(self.parameters[len(self.checkpoints) + 1])

    @property
    def effects(self) -> dict[str, float]:
        return dict(zip(self.effect_names, self.parameters[len(self.checkpoints) + 2 :].tolist(), strict=True))

    def gap(self, one: str, other: str) -> float:
        """Logits by which ``one`` is ahead of ``other``."""
        return float(self.rating[self.checkpoints.index(one)] - self.rating[self.checkpoints.index(other)])

    def chance(self, one: str, other: str) -> float:
        """The share of decided votes (ties aside) that ``one`` gets against ``other``, sides being fair."""
        return float(logistic(self.gap(one, other)))

    def outcome(self, one: str, other: str) -> tuple[float, float, float]:
        """Probabilities that ``one`` wins, that ``other`` does, and of a tie, sides being fair."""
        left, right, tie = _probabilities(np.array(self.gap(one, other)), np.array(self.ties))
        return float(left), float(right), float(tie)


def fit(votes: Votes, covariates: Sequence[str] = (), prior: Prior | None = None) -> Ratings:
    """The most likely ratings under the prior; ``covariates`` are names in ``votes.covariates``.

    Raises:
        VotesError: a covariate that the votes do not have.
    """
    return fit_cells(votes, count(votes, covariates), tuple(covariates), prior or Prior())


def fit_cells(votes: Votes, cells: Cells, effect_names: tuple[str, ...], prior: Prior) -> Ratings:
    """``fit`` of votes that are counted already."""
    parameters = solve(cells, cells.counts[None], prior)[0]
    _, negative_hessian = _derivatives(cells, cells.counts[None], parameters[None], prior)
    parameters[: cells.checkpoints] -= parameters[: cells.checkpoints].mean()
    return Ratings(
        votes.checkpoints, parameters, np.linalg.inv(negative_hessian[0]), effect_names, int(cells.counts.sum())
    )


def count(votes: Votes, covariates: Sequence[str] = ()) -> Cells:
    """Counts votes per ordered pair; with covariates, each vote is a cell of its own.

    Raises:
        VotesError: a covariate that the votes do not have, or do not all have.
    """
    missing = [name for name in covariates if name not in votes.covariates]
    if missing:
        known = ", ".join(votes.covariates) or "none"
        raise VotesError(f"The votes have no covariate {missing[0]!r}; they have: {known}.")
    for name in covariates:
        unknown = int((~np.isfinite(votes.covariates[name])).sum())
        if unknown:
            raise VotesError(f"The covariate {name!r} is unknown in {unknown} of {len(votes)} votes: leave those out.")
    m = len(votes.checkpoints)
    pair = votes.left * m + votes.right
    if covariates:
        return _count_singly(votes, pair, [votes.covariates[name] for name in covariates])
    # Both bad lands in a fourth column that is cut off: cheaper than picking the other votes first.
    counts = np.bincount(pair * 4 + votes.outcome, minlength=4 * m * m).reshape(m * m, 4)[:, :3]
    used = np.flatnonzero(counts.any(axis=1))
    cell_of_pair = np.full(m * m, -1)
    cell_of_pair[used] = np.arange(len(used))
    of_vote = np.where(votes.outcome <= TIE, cell_of_pair[pair], -1)
    nothing = np.zeros((len(used), 0))
    return Cells(m, used // m, used % m, nothing, counts[used].astype(float), np.zeros(0), of_vote)


def _count_singly(votes: Votes, pair: np.ndarray, columns: list[np.ndarray]) -> Cells:
    chosen = np.flatnonzero(votes.outcome <= TIE)
    chosen = chosen[np.argsort(pair[chosen], kind="stable")]
    values = np.stack([column[chosen] for column in columns], axis=1)
    # Not centred: 0 must go on meaning that both sides are alike.
    scales = values.std(axis=0) if len(chosen) else np.ones(len(columns))
    scales[scales == 0] = 1.0
    of_vote = np.full(len(votes), -1)
    of_vote[chosen] = np.arange(len(chosen))
    counts = np.eye(3)[votes.outcome[chosen]]
    return Cells(
        len(votes.checkpoints), votes.left[chosen], votes.right[chosen], values / scales, counts, scales, of_vote
    )


def solve(
    cells: Cells, counts: np.ndarray, prior: Prior, start: np.ndarray | None = None, close: float = _CLOSE
) -> np.ndarray:
    """The posterior's maximum for each of b tables of counts, (b, c, 3) -> (b, p), by Newton's method.

    ``start`` (p,) is where all of them begin; replicates of one data set begin best at its own maximum.
    ``close``: the step in logits after which it ends.

    Raises:
        RuntimeError: when a step still moves after 100 rounds.
    """
    found = np.zeros((len(counts), cells.parameters))
    if start is not None:
        found[:] = start
    together = max(1, _AT_ONCE // max(1, len(cells.left), cells.checkpoints**2))
    for first in range(0, len(counts), together):
        rows = slice(first, first + together)
        found[rows] = _newton(cells, counts[rows], found[rows], prior, close)
    return found


def _newton(cells: Cells, counts: np.ndarray, parameters: np.ndarray, prior: Prior, close: float) -> np.ndarray:
    moving = np.arange(len(counts))
    for _ in range(_ROUNDS):
        gradient, negative_hessian = _derivatives(cells, counts[moving], parameters[moving], prior)
        step = np.linalg.solve(negative_hessian, gradient[..., None])[..., 0]
        longest = np.abs(step).max(axis=1)
        parameters[moving] += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, 1e-300))[:, None]
        moving = moving[longest > close]
        if not len(moving):
            return parameters
    raise RuntimeError(f"The ratings did not settle within {_ROUNDS} rounds.")


def _derivatives(
    cells: Cells, counts: np.ndarray, parameters: np.ndarray, prior: Prior
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (b, p) and negative Hessian (b, p, p) of the log posterior at ``parameters`` (b, p)."""
    m, k = cells.checkpoints, cells.covariates.shape[1]
    rating, position, ties = parameters[:, :m], parameters[:, m], parameters[:, m + 1]
    d = rating[:, cells.left] - rating[:, cells.right] + position[:, None]  # (b, c)
    if k:
        d = d + parameters[:, m + 2 :] @ cells.covariates.T
    left, right, tie = _probabilities(d, ties[:, None])
    total = counts.sum(axis=2)
    half = (left - right) / 2  # the mean of (left wins - right wins) / 2, which d multiplies
    of_d = (counts[..., 0] - counts[..., 1]) / 2 - total * half
    of_ties = (counts[..., 2] - total * tie).sum(axis=1)
    var_d = total * ((left + right) / 4 - half**2)
    cov = total * (-half * tie)
    var_ties = (total * tie * (1 - tie)).sum(axis=1)

    gradient = np.empty_like(parameters)
    hessian = np.zeros((len(parameters), cells.parameters, cells.parameters))
    gradient[:, :m] = _to_ratings(cells, of_d)
    gradient[:, m], gradient[:, m + 1] = of_d.sum(axis=1), of_ties
    grid = _to_grid(cells, var_d)
    hessian[:, :m, :m] = -grid - grid.transpose(0, 2, 1)
    diagonal = np.arange(m)
    hessian[:, diagonal, diagonal] = grid.sum(axis=2) + grid.sum(axis=1)
    # The d-direction of the position is 1 in every cell, that of a covariate its value there.
    for place, values in [(m, None), *((m + 2 + index, cells.covariates[:, index]) for index in range(k))]:
        weighted = var_d if values is None else var_d * values
        _fill(hessian, place, slice(0, m), _to_ratings(cells, weighted))
        hessian[:, place, place] = (weighted if values is None else weighted * values).sum(axis=1)
        _fill(hessian, place, m + 1, (cov if values is None else cov * values).sum(axis=1))
        if values is not None:
            gradient[:, place] = of_d @ values
            _fill(hessian, place, m, weighted.sum(axis=1))
            for later in range(place - m - 1, k):
                _fill(hessian, place, m + 2 + later, weighted @ cells.covariates[:, later])
    _fill(hessian, m + 1, slice(0, m), _to_ratings(cells, cov))
    hessian[:, m + 1, m + 1] = var_ties

    precision = prior.precision(m, k)
    gradient -= precision * parameters
    everything = np.arange(cells.parameters)
    hessian[:, everything, everything] += precision
    return gradient, hessian


def _fill(hessian: np.ndarray, row: int, column: int | slice, values: np.ndarray) -> None:
    hessian[:, row, column] = values
    hessian[:, column, row] = values


def _to_grid(cells: Cells, values: np.ndarray) -> np.ndarray:
    """(b, c) -> (b, m, m): added up per ordered pair."""
    m = cells.checkpoints
    pair = cells.left * m + cells.right
    grid = np.zeros((len(values), m * m))
    if len(pair):
        starts = np.flatnonzero(np.diff(pair, prepend=-1))
        grid[:, pair[starts]] = values if len(starts) == len(pair) else np.add.reduceat(values, starts, axis=1)
    return grid.reshape(-1, m, m)


def _to_ratings(cells: Cells, values: np.ndarray) -> np.ndarray:
    """(b, c) -> (b, m): added where a checkpoint stands left, subtracted where it stands right."""
    grid = _to_grid(cells, values)
    return grid.sum(axis=2) - grid.sum(axis=1)


def _probabilities(d: np.ndarray, ties: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(left), P(right), P(tie), without overflow at any d."""
    # Times exp(-|d|/2): the larger side is 1, the smaller exp(-|d|).
    smaller = np.exp(-np.abs(d))
    tie = np.exp(np.minimum(ties - np.abs(d) / 2, 700.0))
    total = 1 + smaller + tie
    ahead, behind = 1 / total, smaller / total
    return np.where(d >= 0, ahead, behind), np.where(d >= 0, behind, ahead), tie / total


def logistic(x: np.ndarray | float) -> np.ndarray | float:
    """1 / (1 + exp(-x)): a gap in logits as a share of decided votes."""
    return 0.5 * (1 + np.tanh(np.asarray(x) / 2))
