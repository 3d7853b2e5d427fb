"""Votes from a world whose truth is known: raters with tastes of their own who prefer, tie, and lean to one side.

For simulations and tests; the votes are labelled "simulated" and nothing here touches votes of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.rating_votes import BOTH_BAD, Votes
from evaluation.ratings import Cells, Prior, logistic, solve

_STRENGTH_OF = np.array([1, -1, 0, 0])


@dataclass(frozen=True)
class World:
    """ratings in logits, one a checkpoint; ``taste``: standard deviation of a rater's own addition to each rating.

    position: logits in favour of the left side; ties: log nu of Davidson's model; both_bad: share of battles.
    """

    ratings: Sequence[float]
    taste: float = 0.0
    position: float = 0.0
    ties: float = float(np.log(0.5))
    both_bad: float = 0.0

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return tuple(f"checkpoint-{index + 1}" for index in range(len(self.ratings)))

    def votes(self, rng: np.random.Generator, raters: int, each: int) -> Votes:
        """``each`` votes of each of ``raters``, in random order, on random pairs with sides drawn by a coin."""
        n, m = raters * each, len(self.ratings)
        rater = rng.permutation(np.repeat(np.arange(raters), each))
        left = rng.integers(0, m, n)
        right = (left + rng.integers(1, m, n)) % m
        # A gap has the taste's full width, so that ``taste`` reads the same for two checkpoints as for twenty.
        liked = np.asarray(self.ratings) + rng.normal(0, self.taste / np.sqrt(2), (raters, m))
        d = liked[rater, left] - liked[rater, right] + self.position
        chances = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(n, np.exp(self.ties))], axis=1)
        chances /= chances.sum(axis=1, keepdims=True)
        outcome = (rng.random(n)[:, None] > chances.cumsum(axis=1)[:, :2]).sum(axis=1)
        outcome[rng.random(n) < self.both_bad] = BOTH_BAD
        strength = _STRENGTH_OF[outcome] * rng.integers(1, 4, n)
        return Votes(self.checkpoints, left, right, outcome, strength, rater, "simulated")

    def population_gap(self) -> float:
        """The first checkpoint's lead that a vote of every rater there could be would give, in logits.

        Averaged over tastes, votes are less decided than each rater's own: this, not the difference of ``ratings``, is
        what the ratings of many raters settle at. Gauss-Hermite quadrature over the tastes of two checkpoints.
        """
        if len(self.ratings) != 2:
            raise ValueError(f"The gap is that of two checkpoints, got {len(self.ratings)}.")
        nodes, weights = np.polynomial.hermite_e.hermegauss(61)
        own = self.ratings[0] - self.ratings[1] + self.taste * nodes
        counts = []
        for d in (own + self.position, -own + self.position):
            chances = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(len(d), np.exp(self.ties))])
            counts.append((chances / chances.sum(axis=0)) @ weights / weights.sum())
        pair = np.array([0, 1])
        cells = Cells(2, pair, 1 - pair, np.zeros((2, 0)), np.array(counts), np.zeros(0), pair)
        wide = Prior(100, 100, 100, 100)
        found = solve(cells, 1e6 * cells.counts[None], wide)[0]
        return float(found[0] - found[1])

    def share(self) -> float:
        """The share of decided votes that the first of two gets in the population."""
        return float(logistic(self.population_gap()))
