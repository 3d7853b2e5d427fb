"""Which two checkpoints meet next, and which side each is on. Pure: counts in, a pair and its probability out.

The pair whose interval shrinks most is chosen (Chiang et al. 2024, arXiv 2403.04132, section 5, with the variance of a
Bradley-Terry difference in the place of a single win rate), with an exploration floor over all pairs. Sides are drawn
afterwards by a fair coin: who is left says nothing about who was chosen first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Pair = tuple[str, str]
"""Two names, sorted."""


class Dice(Protocol):
    """``random.Random`` and ``random.SystemRandom``: the latter in the app, so that nobody foretells a coin."""

    def random(self) -> float: ...


@dataclass(frozen=True)
class Tally:
    """Decided battles of one pair: wins of the first name, ties, wins of the second."""

    first: float = 0.0
    ties: float = 0.0
    second: float = 0.0

    @property
    def total(self) -> float:
        return self.first + self.ties + self.second


@dataclass(frozen=True)
class Pairing:
    left: str
    right: str
    propensity: float
    """Probability with which this pair (on whichever sides) was chosen."""
    why: Mapping[str, Any]


@dataclass(frozen=True)
class Matchmaking:
    """``exploration``: the share of battles whose pair is drawn evenly. ``prior_sd``: of the ratings, in logits."""

    exploration: float = 0.2
    prior_sd: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.exploration <= 1:
            raise ValueError(f"exploration must be above 0 and at most 1, got {self.exploration}.")

    def choose(self, pairs: Sequence[Pair], tallies: Mapping[Pair, Tally], dice: Dice) -> Pairing:
        """One of ``pairs``.

        Raises:
            ValueError: when there is none.
        """
        if not pairs:
            raise ValueError("There are no two checkpoints that can meet.")
        pairs = sorted({(min(pair), max(pair)) for pair in pairs})
        chances = self.propensities(pairs, tallies)
        index = min(int(np.searchsorted(np.cumsum(chances), dice.random(), side="right")), len(pairs) - 1)
        left, right = pairs[index]
        if dice.random() < 0.5:
            left, right = right, left
        return Pairing(
            left, right, float(chances[index]), {"rule": "shrink", "floor": self.exploration, "pairs": len(pairs)}
        )

    def propensities(self, pairs: Sequence[Pair], tallies: Mapping[Pair, Tally]) -> np.ndarray:
        """Probability of every pair, float64 (len(pairs),): the floor for all, the rest for the best (ties share)."""
        shrink = self.shrinkage(pairs, tallies)
        best = shrink >= shrink.max() * (1 - 1e-9)
        return self.exploration / len(pairs) + (1 - self.exploration) * best / best.sum()

    def shrinkage(self, pairs: Sequence[Pair], tallies: Mapping[Pair, Tally]) -> np.ndarray:
        """By how much one more battle of a pair shortens the standard error of that pair's difference, in logits.

        With variance v of the difference and the information w = p (1 - p) that a battle brings: sqrt(v) before,
        sqrt(v / (1 + v w)) after (Sherman and Morrison).
        """
        names = sorted({name for pair in (*pairs, *tallies) for name in pair})
        place = {name: index for index, name in enumerate(names)}
        ratings, covariance = self._fit(names, place, tallies)
        drops = []
        for first, second in pairs:
            i, j = place[first], place[second]
            variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
            chance = 1 / (1 + np.exp(ratings[j] - ratings[i]))
            information = chance * (1 - chance)
            drops.append(np.sqrt(variance) - np.sqrt(variance / (1 + variance * information)))
        return np.array(drops)

    def _fit(
        self, names: Sequence[str], place: Mapping[str, int], tallies: Mapping[Pair, Tally]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bradley-Terry by Newton with a Gaussian prior, a tie as half a win each: good enough to choose by.

        What is published comes from the ratings, where ties are modelled.
        """
        ratings = np.zeros(len(names))
        hessian = np.eye(len(names))
        for _ in range(12):
            gradient = -ratings / self.prior_sd**2
            hessian = np.eye(len(names)) / self.prior_sd**2
            for (first, second), tally in tallies.items():
                i, j = place[first], place[second]
                chance = 1 / (1 + np.exp(ratings[j] - ratings[i]))
                push = tally.first + tally.ties / 2 - tally.total * chance
                weight = tally.total * chance * (1 - chance)
                gradient[[i, j]] += (push, -push)
                hessian[[i, j], [i, j]] += weight
                hessian[[i, j], [j, i]] -= weight
            step = np.linalg.solve(hessian, gradient)
            ratings += np.clip(step, -2, 2)
            if np.abs(step).max() < 1e-6:
                break
        return ratings, np.linalg.inv(hessian)
