"""Does a reward model know raters' preferences? Pairs that it never saw, by raters and on prompts that it never saw.

Votes are split by prompt and by rater at once. A vote is foretold by a model that was fitted on votes which share
neither its prompt nor its rater, so that neither a sentence nor a person can be recognised. With one rater, only
prompts are held out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from wavalign.rewards.preference_fit import BOTH_BAD, LEFT, RIGHT, Davidson, Prior, fit

FOLDS = 5
_INNER_FOLDS = 3
WIDTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Prior widths of the weights that are tried."""
Reading = tuple[np.ndarray, np.ndarray]
"""Features (n, k) of the left and of the right reply of every vote, as one choice of what to read gives them."""
CHANCE = 0.5


@dataclass(frozen=True)
class Accuracy:
    """The share of decided pairs that were foretold, with its 95 % interval; an undecided guess counts half."""

    value: float
    low: float
    high: float
    pairs: int
    prompts: int
    raters: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Foretold:
    """``left`` and ``right`` (n,): each vote's replies' scores in logits, from a model that did not see the vote."""

    left: np.ndarray
    right: np.ndarray

    @property
    def gaps(self) -> np.ndarray:
        return self.left - self.right


def accuracy(guess: np.ndarray, outcome: np.ndarray, prompt: np.ndarray, rater: np.ndarray) -> Accuracy | None:
    """Of ``guess`` (n,), positive for left, where a side was preferred; None where none was.

    The interval is Wilson's on the effective number of pairs: pairs of one prompt and pairs of one rater are not
    independent, and both ways of clustering are in the variance (Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat.
    29, eq. 2.8), with Student's t for as many clusters as there are of the scarcer kind.
    """
    decided = (outcome == LEFT) | (outcome == RIGHT)
    if not decided.any():
        return None
    guess, wanted = np.sign(guess[decided]), np.where(outcome[decided] == LEFT, 1, -1)
    hits = (1 + guess * wanted) / 2
    prompt, rater = _numbered(prompt[decided]), _numbered(rater[decided])
    n, prompts, raters = len(hits), int(prompt.max()) + 1, int(rater.max()) + 1
    share = float(hits.mean())
    clusters = min(prompts, raters) if raters > 1 else prompts
    effective = n / float(_design_effect(hits, prompt, rater, clusters))
    quantile = float(student.ppf(0.975, max(1, clusters - 1)))
    squared = quantile**2 / effective
    centre = (share + squared / 2) / (1 + squared)
    half = math.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    return Accuracy(share, max(0.0, centre - half), min(1.0, centre + half), n, prompts, raters)


def foretell(
    readings: Sequence[Reading],
    outcome: np.ndarray,
    prompt: np.ndarray,
    rater: np.ndarray,
    told: Callable[[float], None] = lambda share: None,
) -> Foretold:
    """Scores of all votes' replies, each from a fit without its prompt and its rater.

    Which of the ``readings`` and which prior is chosen anew for every fit, from the votes that it sees. outcome (n,)
    codes of ``preference_fit``; prompt, rater (n,): what is held out together. ``told`` hears the share that is done.

    Raises:
        ValueError: when there are too few votes to hold any out.
    """
    prompt_fold, rater_fold = _folds(prompt), _folds(rater)
    scores = np.zeros((2, len(outcome)))
    cells = [(p, r) for p in range(prompt_fold.max() + 1) for r in range(rater_fold.max() + 1)]
    several = rater_fold.max() > 0
    for number, (p, r) in enumerate(cells):
        tested = (prompt_fold == p) & (rater_fold == r)
        known = (prompt_fold != p) & ((rater_fold != r) | (not several)) & (outcome != BOTH_BAD)
        if not tested.any():
            continue
        if len(np.unique(prompt[known])) < 2:
            raise ValueError("There are too few votes on different prompts to hold some of them out.")
        seen = [(left[known], right[known]) for left, right in readings]
        which, width = best(seen, outcome[known], prompt[known], rater[known])
        found = fit(*seen[which], outcome[known], _numbered(rater[known]), Prior(weight=width))
        scores[:, tested] = [side[tested] @ found.weights for side in readings[which]]
        told((number + 1) / len(cells))
    return Foretold(*scores)


def best(
    readings: Sequence[Reading],
    outcome: np.ndarray,
    prompt: np.ndarray,
    rater: np.ndarray,
    widths: Sequence[float] = WIDTHS,
) -> tuple[int, float]:
    """The number of the reading, and its prior width, by how likely votes on held-out prompts are.

    Of each reading the best width; widths are tried from the narrowest on, until one foretells worse than the one
    before. Of the readings the first that is not worse than the best by more than one standard error of their
    difference: what comes first reads least, and reading more has to be worth it (Breiman et al. 1984, section 3.4.3).
    """
    fold = _folds(prompt, _INNER_FOLDS)

    def likelihood(reading: Reading, width: float) -> np.ndarray:
        left, right = reading
        found = np.zeros(len(outcome))
        for each in range(fold.max() + 1):
            known, tested = fold != each, fold == each
            votes = left[known], right[known], outcome[known]
            fitted: Davidson = fit(*votes, _numbered(rater[known]), Prior(weight=width))
            found[tested] = fitted.log_likelihood(left[tested], right[tested], outcome[tested])
        return found

    chosen: list[tuple[float, np.ndarray]] = []
    for reading in readings:
        tried: list[tuple[float, np.ndarray]] = []
        for width in widths:
            tried.append((width, likelihood(reading, width)))
            if len(tried) > 1 and tried[-1][1].sum() < tried[-2][1].sum():
                break
        chosen.append(max(tried, key=lambda each: each[1].sum()))
    most = max((each for _, each in chosen), key=np.sum)
    for number, (width, found) in enumerate(chosen):
        behind = most - found
        if behind.mean() <= behind.std() / math.sqrt(len(behind)):
            return number, width
    raise AssertionError("The best reading is not behind itself.")


def _design_effect(hits: np.ndarray, prompt: np.ndarray, rater: np.ndarray, clusters: int) -> float:
    """How many pairs are worth one independent pair; never below 1."""
    n, share = len(hits), hits.mean()
    plain = share * (1 - share) * n
    if plain == 0:
        return n / clusters  # without a miss nothing is known of how misses cluster: each cluster counts once
    residual = hits - share

    def clustered(group: np.ndarray) -> float:
        size = int(group.max()) + 1
        return float(np.square(np.bincount(group, residual)).sum()) * size / max(1, size - 1)

    of_prompt, of_rater = clustered(prompt), clustered(rater) if rater.max() else 0.0
    both = clustered(_numbered(prompt * (int(rater.max()) + 1) + rater)) if rater.max() else 0.0
    return max(1.0, max(of_prompt, of_rater, of_prompt + of_rater - both) / plain)


def _folds(group: np.ndarray, most: int = FOLDS) -> np.ndarray:
    """(n,) numbers below ``most`` (fewer where there are fewer groups), the largest groups dealt out first."""
    index = _numbered(group)
    sizes = np.bincount(index)
    count = min(most, len(sizes))
    loads, place = np.zeros(count), np.zeros(len(sizes), int)
    for each in np.argsort(-sizes, kind="stable"):
        place[each] = loads.argmin()
        loads[place[each]] += sizes[each]
    return place[index]


def _numbered(group: np.ndarray) -> np.ndarray:
    return np.unique(group, return_inverse=True)[1].reshape(-1)
