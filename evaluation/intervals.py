"""95 % intervals: Wilson's for a share of independent trials, the bootstrap over clusters for everything else.

The unit that is resampled is the prompt (or the recording): several samples of one prompt, or several words of one
sentence, are not independent, and treating them so would make intervals too short.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

Z95 = 1.959963984540054
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, from ``n`` independent units (prompts, recordings)."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, trials: int) -> Estimate | None:
    """A share of independent trials (Wilson 1927, score interval); None without trials."""
    if trials == 0:
        return None
    share, z2 = successes / trials, Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half), trials)


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate | None:
    """sum(numerators) / sum(denominators), with the percentile interval over resampled clusters.

    Word error rate: errors and reference words of each recording. ``clusters`` None makes each row its own.
    None when the denominators add up to nothing.
    """
    top, bottom = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if top.shape != bottom.shape:
        raise ValueError(f"{len(top)} numerators do not go with {len(bottom)} denominators.")
    if bottom.sum() <= 0:
        return None
    if clusters is not None:
        _, index = np.unique([str(c) for c in clusters], return_inverse=True)
        top, bottom = np.bincount(index, weights=top), np.bincount(index, weights=bottom)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(top), size=(draws, len(top)))
    tops, bottoms = top[chosen].sum(axis=1), bottom[chosen].sum(axis=1)
    ratios = tops[bottoms > 0] / bottoms[bottoms > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high), len(top))


def bootstrap_mean(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, seed: int = 0
) -> Estimate | None:
    """The mean of values, clusters resampled whole; None without values."""
    return bootstrap_ratio(values, np.ones(len(values)), clusters, seed)


def bootstrap_ratio_difference(
    numerators: Sequence[float],
    other_numerators: Sequence[float],
    denominators: Sequence[float],
    seed: int = 0,
) -> Estimate | None:
    """First ratio minus the second, paired: both are measured on the same recordings with the same denominators."""
    return bootstrap_ratio(np.subtract(numerators, other_numerators), denominators, seed=seed)
