"""Do raters agree with each other, and with themselves? Krippendorff's alpha, and repeats with the sides swapped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.intervals import Estimate
from evaluation.rating_intervals import rater_share

DRAWS = 1000
LEVELS = ("nominal", "ordinal", "interval")


def alpha(values: np.ndarray, unit: Sequence[object], level: str = "interval") -> float | None:
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives, below 0 systematic disagreement.

    values (n,): one judgement each; unit (n,): what was judged. Units judged once say nothing and are left out.
    None when no unit was judged twice, or when all judgements are the same (there is nothing to agree about).
    Krippendorff 2018, Content Analysis, chapter 12; distances for nominal, ordinal and interval values.

    Raises:
        ValueError: an unknown level.
    """
    found = _coincidences(np.asarray(values, dtype=float), unit)
    if found is None:
        return None
    levels, per_unit = found
    return _alpha(per_unit.sum(axis=0), _distance(levels, per_unit.sum(axis=0), level))


def alpha_estimate(
    values: np.ndarray, unit: Sequence[object], level: str = "interval", draws: int = DRAWS, seed: int = 0
) -> Estimate | None:
    """``alpha`` with its 95 % percentile interval over resampled units; ``n`` counts units judged twice or more."""
    found = _coincidences(np.asarray(values, dtype=float), unit)
    if found is None:
        return None
    levels, per_unit = found
    together = per_unit.sum(axis=0)
    value = _alpha(together, _distance(levels, together, level))
    if value is None:
        return None
    rng = np.random.default_rng(seed)
    drawn = []
    for how_often in rng.multinomial(len(per_unit), np.full(len(per_unit), 1 / len(per_unit)), size=draws):
        table = np.tensordot(how_often.astype(float), per_unit, axes=1)
        one = _alpha(table, _distance(levels, table, level))
        if one is not None:
            drawn.append(one)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(per_unit))


def self_consistency(first: np.ndarray, second: np.ndarray, rater: np.ndarray) -> Estimate | None:
    """How often a rater says the same again: first and second (n,) judgements of one battle, sides put back.

    None without repeats.
    """
    if not len(first):
        return None
    _, index = np.unique(np.asarray(rater), return_inverse=True)
    return rater_share(np.sign(first) == np.sign(second), index.reshape(-1))


def _coincidences(values: np.ndarray, unit: Sequence[object]) -> tuple[np.ndarray, np.ndarray] | None:
    """Levels (v,), and per unit how often two of its judgements were a and b, over their number less one (u, v, v)."""
    _, index = np.unique(np.asarray([str(each) for each in unit]), return_inverse=True)
    judged_again = np.bincount(index)[index] > 1 if len(index) else np.zeros(0, dtype=bool)
    if not judged_again.any():
        return None
    _, index = np.unique(index[judged_again], return_inverse=True)
    levels, level = np.unique(values[judged_again], return_inverse=True)
    counts = np.zeros((index.max() + 1, len(levels)))
    np.add.at(counts, (index, level), 1)
    pairs = counts[:, :, None] * counts[:, None]
    diagonal = np.arange(len(levels))
    pairs[:, diagonal, diagonal] -= counts
    return levels, pairs / (counts.sum(axis=1) - 1)[:, None, None]


def _alpha(coincidences: np.ndarray, distance: np.ndarray) -> float | None:
    margin = coincidences.sum(axis=1)
    total = margin.sum()
    expected = (np.outer(margin, margin) * distance).sum() / (total - 1)
    if expected == 0:
        return None
    return float(1 - (coincidences * distance).sum() / expected)


def _distance(levels: np.ndarray, coincidences: np.ndarray, level: str) -> np.ndarray:
    """Squared distance (v, v) between values."""
    if level == "nominal":
        return (levels[:, None] != levels[None]).astype(float)
    if level == "interval":
        return (levels[:, None] - levels[None]) ** 2
    if level == "ordinal":
        margin = coincidences.sum(axis=1)
        up_to = np.cumsum(margin) - margin / 2  # mid-ranks: what lies between, and half of both ends
        return (up_to[:, None] - up_to[None]) ** 2
    raise ValueError(f"Unknown level {level!r}: one of {', '.join(LEVELS)}.")
