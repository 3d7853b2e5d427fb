"""Intervals of ratings: raters resampled whole, ranks from simultaneous comparisons, and the rate of "both bad".

Votes of one rater are alike, so an interval that counts them as independent is too short: raters are what is resampled
(percentile bootstrap), each replicate refitted from where the fit of all votes lies. Two corrections keep it honest
with little data. Percentiles are the expanded ones for few units (Hesterberg 2015, arXiv 1411.5279). And an interval is
never shorter than the one that the model gives for independent votes: resampling six wins of six gives six wins of six,
whereas the prior and the likelihood know how little that says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import norm, t

from evaluation.intervals import Z95, Estimate
from evaluation.rating_votes import BOTH_BAD, TIE, Votes
from evaluation.ratings import Cells, Prior, Ratings, count, fit_cells, solve

DRAWS = 1000
_GROUPS = 2000
"""Raters beyond this number are resampled in as many random groups."""
_AT_ONCE = 3_000_000
"""Counts held at a time while replicates are drawn: about 24 MB."""
_CLOSE = 1e-2
"""Logits: a replicate's last Newton step. What is left is of the order of its square, far below an interval's noise."""


@dataclass(frozen=True)
class Rated:
    """Ratings with what their uncertainty is computed from: ``draws`` (b, p) of the parameters, over ``raters``."""

    ratings: Ratings
    draws: np.ndarray
    raters: int

    def contrast(self, direction: np.ndarray) -> Estimate:
        """direction (p,) . parameters with its 95 % interval, in logits; ``n`` counts raters."""
        point = float(direction @ self.ratings.parameters)
        spread = math.sqrt(max(0.0, float(direction @ self.ratings.covariance @ direction)))
        low, high = point - Z95 * spread, point + Z95 * spread
        if self.raters > 1:
            tail = 100 * expanded_tail(self.raters)
            drawn_low, drawn_high = np.percentile(self.draws @ direction, [tail, 100 - tail])
            low, high = min(low, float(drawn_low)), max(high, float(drawn_high))
        return Estimate(point, low, high, self.raters)

    def gap(self, one: str, other: str) -> Estimate:
        """Logits by which ``one`` is ahead of ``other``."""
        direction = np.zeros(self.draws.shape[1])
        direction[self.ratings.checkpoints.index(one)] += 1
        direction[self.ratings.checkpoints.index(other)] -= 1
        return self.contrast(direction)

    def position(self) -> Estimate:
        """Logits by which the left side is favoured."""
        return self.contrast(self._unit(len(self.ratings.checkpoints)))

    def effects(self) -> dict[str, Estimate]:
        """Logits per standard deviation of each covariate."""
        first = len(self.ratings.checkpoints) + 2
        return {name: self.contrast(self._unit(first + i)) for i, name in enumerate(self.ratings.effect_names)}

    def _unit(self, place: int) -> np.ndarray:
        return np.eye(self.draws.shape[1])[place]


def rate(
    votes: Votes,
    covariates: tuple[str, ...] = (),
    prior: Prior | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Rated:
    """Fits the votes and refits ``draws`` samples of their raters.

    Raises:
        VotesError: a covariate that the votes do not have.
    """
    prior = prior or Prior()
    cells = count(votes, covariates)
    ratings = fit_cells(votes, cells, tuple(covariates), prior)
    rng = np.random.default_rng(seed)
    table, raters = _rater_table(votes, cells, rng)
    if raters < 2:  # nothing to resample: the interval is the model's own
        return Rated(ratings, ratings.parameters[None], raters)
    units = table.shape[1]
    found, together = [], max(1, min(draws, _AT_ONCE // max(1, cells.counts.size)))
    for first in range(0, draws, together):
        how_often = rng.multinomial(units, np.full(units, 1 / units), size=min(together, draws - first))
        counts = (table @ how_often.T.astype(float)).T.reshape(len(how_often), -1, 3)
        found.append(solve(cells, counts, prior, ratings.parameters, _CLOSE))
    return Rated(ratings, np.concatenate(found), raters)


def ranks(rated: Rated) -> tuple[np.ndarray, np.ndarray]:
    """Best and worst rank (m,) of each checkpoint, 1 being the first; all of them hold together with 95 %.

    A rank is bounded by how many others are surely better and surely worse, by intervals of all pairs' gaps that hold
    at once (Mogstad, Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91).
    """
    m = len(rated.ratings.checkpoints)
    point = rated.ratings.rating
    gaps = point[:, None] - point[None]
    covariance = rated.ratings.covariance[:m, :m]
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[:, None] + variance[None] - 2 * covariance, 0))
    critical = norm.ppf(1 - 0.025 / max(1, m * (m - 1) / 2))  # Bonferroni's, where nothing can be resampled
    if rated.raters > 1:
        drawn = rated.draws[:, :m] - rated.draws[:, :m].mean(axis=0)
        cross = drawn.T @ drawn / len(drawn)
        own = np.diag(cross)
        few = -norm.ppf(expanded_tail(rated.raters)) / Z95
        spread = np.maximum(spread, few * np.sqrt(np.maximum(own[:, None] + own[None] - 2 * cross, 0)))
        safe = np.where(spread > 0, spread, np.inf)
        largest = np.concatenate(
            [
                np.abs((part[:, :, None] - part[:, None]) / safe).max(axis=(1, 2))
                for part in np.array_split(drawn, max(1, len(drawn) * m * m // 4_000_000 + 1))
            ]
        )
        critical = max(Z95, few * float(np.percentile(largest, 95)))
    surely_ahead = gaps > critical * spread
    np.fill_diagonal(surely_ahead, False)
    return 1 + surely_ahead.sum(axis=0), m - surely_ahead.sum(axis=1)


def both_bad(votes: Votes, checkpoint: str) -> Estimate | None:
    """The share of a checkpoint's battles that ended with both sides called bad, with its 95 % interval.

    Wilson's interval at the effective number of votes: their number over the design effect of the raters, and over
    (t / z)^2 for few raters (Korn and Graubard 1998, Survey Methodology 24). None without battles.
    """
    index = votes.checkpoints.index(checkpoint)
    own = votes.where((votes.left == index) | (votes.right == index))
    if not len(own):
        return None
    share = rater_share(own.outcome == BOTH_BAD, own.rater_index()[0])
    return Estimate(share.value, share.low, share.high, len(own))


def rater_share(said: np.ndarray, rater: np.ndarray) -> Estimate:
    """The share of True in ``said`` (n,), n > 0; its 95 % interval knows that votes of one ``rater`` are alike."""
    n, raters = len(said), int(rater.max()) + 1
    share = float(said.mean())
    effect = 1.0
    if raters > 1 and 0 < share < 1:
        excess = np.bincount(rater, weights=said - share, minlength=raters)
        clustered = raters / (raters - 1) * float((excess**2).sum()) / n**2
        effect = max(1.0, clustered / (share * (1 - share) / n))
    effective = n / effect
    if raters > 1:
        effective /= (t.ppf(0.975, raters - 1) / Z95) ** 2
    z2 = Z95**2
    centre = (share + z2 / (2 * effective)) / (1 + z2 / effective)
    half = Z95 * math.sqrt(share * (1 - share) / effective + z2 / (4 * effective**2)) / (1 + z2 / effective)
    return Estimate(share, float(max(0.0, centre - half)), float(min(1.0, centre + half)), n)


def expanded_tail(units: int) -> float:
    """The share to cut off at each end of a bootstrap of ``units`` > 1 clusters for a 95 % interval.

    Phi(-sqrt(n / (n - 1)) t(0.975, n - 1)): 0.025 with many units, less with few (Hesterberg 2015).
    """
    return float(norm.cdf(-math.sqrt(units / (units - 1)) * t.ppf(0.975, units - 1)))


def _rater_table(votes: Votes, cells: Cells, rng: np.random.Generator) -> tuple[sparse.csr_array, int]:
    """Counts of each rater, (3c, r) sparse, and how many raters there are.

    Beyond ``_GROUPS`` raters, columns are random groups of them: sums of independent raters are independent too.
    """
    preferred = votes.outcome <= TIE
    rater, raters = votes.where(preferred).rater_index()
    if raters > _GROUPS:
        rater = rng.permutation(raters)[rater] % _GROUPS
    count_of = 3 * cells.of_vote[preferred] + votes.outcome[preferred]
    shape = (cells.counts.size, min(raters, _GROUPS))
    return sparse.coo_array((np.ones(len(rater)), (count_of, rater)), shape=shape).tocsr(), raters
