"""Is one checkpoint really better than the other? An answer that stays valid however often one looks.

People watch a board and stop when it pleases them; a p-value read that way finds a false winner one time in three. An
e-process does not: without a difference it reaches 40 at any time, in the whole future, with probability at most 1/40
(Ville's inequality; Ramdas, Gruenwald, Vovk and Shafer 2023, arXiv 2210.01948). There is one for each direction, so
that a false winner of either kind comes at most 5 % of the time. Only decided votes count; sides must be drawn by a
fair coin. Two questions are kept apart:

- **These raters.** Null: every vote is a coin at most 1/2. The likelihood ratio of a uniform share in (1/2, 1) against
  1/2 (Ville 1939; Robbins 1970). Rejected, it says that these raters, taken together, prefer it.
- **Raters in general.** Null: each rater has a taste of their own, Beta distributed around a mean of at most 1/2,
  however wide. The likelihood of a mixture of better means over the largest likelihood that the null can reach
  (universal inference: Wasserman, Ramdas and Balakrishnan 2020, arXiv 1912.11436). A hundred votes of one rater can
  never satisfy it, nor can five raters who agree: the next may not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, expit, logsumexp
from scipy.stats import beta

ALPHA = 0.05
THRESHOLD = 2 / ALPHA
"""What either direction's e-value must reach."""
FEWEST_RATERS = math.ceil(math.log2(THRESHOLD))
"""Fewer raters than this cannot be evidence about raters in general, whatever they say."""
_FURTHEST = 1000.0
"""Times the votes so far: what would take longer is called out of sight."""

_LOGITS = np.linspace(-4, 4, 41)
_ALIKENESS = np.array([0, 0.005, 0.01, 0.02, 0.04, 0.07, 0.11, 0.16, 0.23, 0.32, 0.45, 0.6, 0.8, 0.95])
"""Intraclass correlation of a rater's votes: 1 / (a + b + 1) of the Beta distribution of tastes."""
_MEAN = np.repeat(expit(_LOGITS), len(_ALIKENESS))
_ALIKE = np.tile(_ALIKENESS, len(_LOGITS))
# Where the evidence is looked for: modest differences first, raters alike rather than not.
_WEIGHT = np.exp(-0.5 * np.repeat(_LOGITS, len(_ALIKENESS)) ** 2) * np.where(_ALIKE == 0, 4.0, 1.0)
_BETTER, _WORSE = _MEAN > 0.5 + 1e-9, _MEAN < 0.5 - 1e-9


@dataclass(frozen=True)
class Question:
    """One of the two questions after the votes so far.

    for_it, against_it: the highest e-value so far that the checkpoint is better, and worse.
    after: how many votes had been cast, ties and both-bad included, when one reached ``THRESHOLD``; None: not yet.
    more: about how many more votes, if they go on as they did; None when reached, or when no end is in sight.
    """

    for_it: float
    against_it: float
    after: int | None
    more: int | None

    @property
    def winner(self) -> int:
        """1 the checkpoint is better, -1 worse, 0 not enough evidence."""
        return 0 if self.after is None else 1 if self.for_it >= self.against_it else -1

    @property
    def share(self) -> float:
        """How far along the way to enough evidence, 0 to 1, on the scale of the logarithm."""
        return float(np.clip(math.log(max(self.for_it, self.against_it, 1.0)) / math.log(THRESHOLD), 0, 1))


@dataclass(frozen=True)
class Evidence:
    """That ``checkpoint`` beats ``against``: both questions, and the numbers they rest on."""

    checkpoint: str
    against: str
    votes: int
    wins: int
    losses: int
    raters: int
    these_raters: Question
    in_general: Question


def gather(checkpoint: str, against: str, sign: np.ndarray, rater: np.ndarray) -> Evidence:
    """The evidence in all votes between the two, in the order in which they were cast.

    sign (n,): 1 where ``checkpoint`` was preferred, -1 where ``against`` was, 0 otherwise; rater (n,): 0, 1, ...
    """
    decided = np.flatnonzero(sign != 0)
    won, who = sign[decided] > 0, rater[decided]
    wins, losses = int(won.sum()), int((~won).sum())
    raters = len(np.unique(who))
    # What either e-value would be if the same votes came k times over: from as many raters, and from k times as many.
    total = np.bincount(who, minlength=1), np.bincount(who, weights=won, minlength=1)

    def of_votes(k: float) -> float:
        return max(_of_votes(k * wins, k * losses), _of_votes(k * losses, k * wins))

    grid = _records(total[1], total[0] - total[1])

    def of_raters(k: float) -> float:
        return max(_ratio(k * grid, _BETTER), _ratio(k * grid, _WORSE))

    return Evidence(
        checkpoint,
        against,
        len(sign),
        wins,
        losses,
        raters,
        _question(*these_raters(won), decided, len(sign), of_votes),
        _question(*in_general(won, who), decided, len(sign), of_raters),
    )


def these_raters(won: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log e-values after each decided vote, (n,) for and (n,) against; won (n,) bool."""
    wins = np.cumsum(won).astype(float)
    losses = np.arange(1, len(won) + 1) - wins
    return _of_votes(wins, losses), _of_votes(losses, wins)


def in_general(won: np.ndarray, rater: np.ndarray, together: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Log e-values after each decided vote, (n,) for and (n,) against; rater (n,) numbers 0, 1, ..."""
    wins, losses = _before(won, rater)
    likelihood = np.zeros(len(_MEAN))
    found = []
    for first in range(0, len(won), together):  # a block at a time: n x grid may not fit
        part = slice(first, first + together)
        steps = _predicted(won[part, None], wins[part, None], losses[part, None])
        path = likelihood + np.cumsum(steps, axis=0)
        likelihood = path[-1]
        found.append(np.stack([_ratio(path, _BETTER), _ratio(path, _WORSE)]))
    log_e = np.concatenate(found, axis=1) if found else np.zeros((2, 0))
    return log_e[0], log_e[1]


def votes_needed(share: float) -> int:
    """About how many decided votes of one mind-alike crowd show a preference of ``share`` > 1/2, these raters."""
    low, high = 1, 10_000_000
    while low < high:
        middle = (low + high) // 2
        enough = _of_votes(share * middle, (1 - share) * middle) >= math.log(THRESHOLD)
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def _of_votes(wins: np.ndarray | float, losses: np.ndarray | float) -> np.ndarray | float:
    """log of the integral of p^wins (1-p)^losses over p uniform in (1/2, 1), over (1/2)^(wins + losses)."""
    tail = beta.logsf(0.5, np.asarray(wins) + 1, np.asarray(losses) + 1)
    value = (np.asarray(wins) + losses + 1) * math.log(2) + betaln(np.asarray(wins) + 1, np.asarray(losses) + 1) + tail
    return float(value) if np.ndim(value) == 0 else value


def _ratio(likelihood: np.ndarray, better: np.ndarray) -> np.ndarray | float:
    """Log e-value from log likelihoods (..., grid): the mixture over ``better`` means over the best of the others."""
    weight = np.log(_WEIGHT[better] / _WEIGHT[better].sum())
    value = logsumexp(likelihood[..., better] + weight, axis=-1) - likelihood[..., ~better].max(axis=-1)
    return float(value) if np.ndim(value) == 0 else value


def _predicted(won: np.ndarray, wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Log probability of a vote by a rater with ``wins`` and ``losses`` before it, under each point of the grid.

    Beta-binomial: ((1 - alike) mean + alike wins) / ((1 - alike) + alike (wins + losses)).
    """
    mean, so_far = np.where(won, _MEAN, 1 - _MEAN), np.where(won, wins, losses)
    return np.log(((1 - _ALIKE) * mean + _ALIKE * so_far) / ((1 - _ALIKE) + _ALIKE * (wins + losses)))


def _records(wins: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Log likelihood (grid,) of raters' records, one by one."""
    total = np.zeros(len(_MEAN))
    for won, lost in zip(wins.astype(int), losses.astype(int), strict=True):
        sequence = np.array([True] * won + [False] * lost)
        if len(sequence):
            before = np.arange(len(sequence))
            total += _predicted(
                sequence[:, None], np.minimum(before, won)[:, None], np.maximum(before - won, 0)[:, None]
            ).sum(axis=0)
    return total


def _before(won: np.ndarray, rater: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often the vote's rater had said each before, (n,) wins and (n,) losses."""
    order = np.argsort(rater, kind="stable")
    wins, votes = np.cumsum(won[order]) - won[order], np.arange(len(won))
    first = np.flatnonzero(np.diff(rater[order], prepend=-1))
    length = np.diff(np.append(first, len(won)))
    wins, votes = wins - np.repeat(wins[first], length), votes - np.repeat(first, length)
    back = np.empty((2, len(won)))
    back[0, order], back[1, order] = wins, votes - wins
    return back[0], back[1]


def _question(
    log_for: np.ndarray, log_against: np.ndarray, decided: np.ndarray, votes: int, repeated: object
) -> Question:
    if not len(decided):
        return Question(1.0, 1.0, None, None)
    enough = math.log(THRESHOLD)
    reached = np.flatnonzero(np.maximum(log_for, log_against) >= enough)
    after = int(decided[reached[0]]) + 1 if len(reached) else None
    more = None
    if after is None and repeated(_FURTHEST) >= enough:
        low, high = 1.0, _FURTHEST
        while high / low > 1.005:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if repeated(middle) >= enough else (middle, high)
        more = max(1, math.ceil((high - 1) * votes))
    bounded = [float(np.exp(min(700.0, max(0.0, path.max())))) for path in (log_for, log_against)]
    return Question(bounded[0], bounded[1], after, more)
