"""Means over seeds and prompts, and paired differences, with 95 % intervals that allow for both.

Two runs of one recipe differ (the seed of training), and so do two prompts; an interval that resamples prompts alone
says how well *these runs* are measured, not what the recipe does. Here both are resampled: in each draw prompts by the
bootstrap, the same ones for every run, and seeds by the bootstrap with their deviations widened, because the spread of
a few values is underestimated by resampling them: by sqrt(S / (S - 1)) for the variance and by t / z for the tails.
With one seed nothing can be said about seeds, and the interval is over prompts only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import t as student

from evaluation.intervals import DRAWS, Z95, Estimate


@dataclass(frozen=True)
class Ratio:
    """A measure of some runs: ``top`` and ``bottom`` (S, P), of every seed and prompt.

    A run's value is sum(top) / sum(bottom): right answers by replies, word errors by words. A prompt that was not
    measured has 0 in both.
    """

    top: np.ndarray
    bottom: np.ndarray

    def __post_init__(self) -> None:
        if self.top.shape != self.bottom.shape or self.top.ndim != 2:
            raise ValueError(f"top {self.top.shape} and bottom {self.bottom.shape} must both be (seeds, prompts).")

    @property
    def of_seeds(self) -> np.ndarray:
        """Each run's value (S,), NaN where it measured nothing."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.top.sum(1) / self.bottom.sum(1)

    def resampled(self, counts: np.ndarray) -> np.ndarray:
        """Values (draws, S) with prompt p taken ``counts[d, p]`` times in draw d."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return (counts @ self.top.T) / (counts @ self.bottom.T)


def widening(seeds: int) -> float:
    """The factor on resampled seeds' deviations; 0 for one seed."""
    if seeds < 2:
        return 0.0
    return math.sqrt(seeds / (seeds - 1)) * float(student.ppf(0.975, seeds - 1)) / Z95


def over_seeds(ratio: Ratio, minus: Ratio | None = None, seed: int = 0, draws: int = DRAWS) -> Estimate | None:
    """The mean over seeds of a measure, or of its difference from ``minus`` on the same prompts.

    ``minus`` holds the same seeds in the same order, or one row that stands for all (the base). None where a run
    measured nothing. ``n`` is the number of prompts that were measured.
    """
    seeds, prompts = ratio.top.shape
    if minus is not None and (minus.top.shape[1] != prompts or minus.top.shape[0] not in (1, seeds)):
        raise ValueError(f"{ratio.top.shape} cannot be paired with {minus.top.shape} (seeds, prompts).")
    values = ratio.of_seeds - (0.0 if minus is None else minus.of_seeds)
    if not np.isfinite(values).all():
        return None
    counts = _bootstrap(prompts, seed, draws)
    drawn = ratio.resampled(counts) - (0.0 if minus is None else minus.resampled(counts))
    drawn = drawn[np.isfinite(drawn).all(1)]
    mean = drawn.mean(1)
    chosen = np.random.default_rng([seed, 1]).integers(0, seeds, size=(len(drawn), seeds))
    deviation = np.take_along_axis(drawn, chosen, axis=1).mean(1) - mean
    low, high = np.percentile(mean + widening(seeds) * deviation, [2.5, 97.5])
    measured = (ratio.bottom > 0).any(0)
    return Estimate(float(values.mean()), float(low), float(high), int(measured.sum()))


@lru_cache(maxsize=4)
def _bootstrap(prompts: int, seed: int, draws: int) -> np.ndarray:
    """How often each prompt is taken in each draw (draws, prompts): the same for every measure, so drawn once."""
    shares = np.full(prompts, 1 / prompts)
    return np.random.default_rng(seed).multinomial(prompts, shares, size=draws).astype(float)


def mean_with_t(values: np.ndarray) -> Estimate | None:
    """The mean of independent values with Student's interval; without an interval's width for one value."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, mean, mean, 1)
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half, len(values))
