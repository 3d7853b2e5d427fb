"""Bradley-Terry with Davidson's ties on features of replies, with what each rater does whatever is heard taken out.

With g = weights . (features of left - features of right), all in logits,

    P(left) : P(right) : P(tie)  =  exp(d/2) : exp(-d/2) : nu,    d = g + side + side_r,    log nu = ties + ties_r

(Davidson 1970, J. Am. Stat. Assoc. 65; the liking for a side is that of Davidson and Beaver 1977, Biometrics 33).
``side_r`` and ``ties_r`` are rater r's own liking for the left side and own readiness to call it a tie. They explain
votes so that the weights need not, and no reply's score holds them.

Votes compare replies to one question and say nothing of two questions, yet a reward gives replies to all of them one
scale. So beside the normal prior of every parameter there is one of what a question's replies score on average: a
priori one question is answered as well as another, give or take ``level``. Without it the weights are free to tell
questions apart, by far more than replies to one. The log posterior is strictly concave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

LEFT, RIGHT, TIE, BOTH_BAD = 0, 1, 2, 3
OUTCOMES = ("left", "right", "tie", "both_bad")
"""Names of the codes. Both bad says nothing about which is better: it is no part of this fit."""
_TIGHT = 1e-5


@dataclass(frozen=True)
class Prior:
    """Standard deviations in logits. ``weight`` is of each weight: features are scaled (and centred) to suit one width.
    ``level`` is of the two replies' mean score."""

    weight: float = 1.0
    level: float = 10.0
    side: float = 1.0
    ties: float = 2.0
    own_side: float = 0.5
    own_ties: float = 0.5


@dataclass(frozen=True)
class Davidson:
    """The most likely parameters, in logits: weights (k,), own_side and own_ties (raters,)."""

    weights: np.ndarray
    side: float
    ties: float
    own_side: np.ndarray
    own_ties: np.ndarray

    def gaps(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(n,) logits by which the left reply is better, for features (n, k); no rater's habits are in it."""
        return (left - right) @ self.weights

    def log_likelihood(self, left: np.ndarray, right: np.ndarray, outcome: np.ndarray) -> np.ndarray:
        """(n,) of each vote, in nats, of raters who are not known."""
        logits = _logits(self.gaps(left, right) + self.side, np.full(len(outcome), self.ties))
        return _log_softmax(logits)[np.arange(len(outcome)), outcome]


def fit(
    left: np.ndarray, right: np.ndarray, outcome: np.ndarray, rater: np.ndarray, prior: Prior | None = None
) -> Davidson:
    """The posterior's maximum.

    ``left``, ``right`` float (n, k): features of the two replies; ``outcome`` (n,): LEFT, RIGHT or TIE; ``rater``
    (n,): whole numbers from 0.

    Raises:
        ValueError: when there is no vote, a vote is of another kind, or a feature is not a number.
    """
    prior = prior or Prior()
    outcome, rater = np.asarray(outcome), np.asarray(rater)
    differences, means = left - right, (left + right) / 2
    n, k = differences.shape
    if not n or outcome.max() > TIE or not np.isfinite(differences).all():
        raise ValueError("A fit needs votes for left, right or a tie, and features that are numbers.")
    raters = int(rater.max()) + 1
    widths = [np.full(k, prior.weight), [prior.side, prior.ties], np.full(raters, prior.own_side)]
    precision = 1 / np.square(np.concatenate([*widths, np.full(raters, prior.own_ties)]))
    chosen = np.eye(3)[outcome]

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        own_side, own_ties = p[k + 2 : k + 2 + raters], p[k + 2 + raters :]
        logits = _logits(differences @ p[:k] + p[k] + own_side[rater], p[k + 1] + own_ties[rater])
        logp = _log_softmax(logits)
        surplus = np.exp(logp) - chosen  # the gradient by each logit
        of_d, of_ties = (surplus[:, LEFT] - surplus[:, RIGHT]) / 2, surplus[:, TIE]
        own = [np.bincount(rater, each, raters) for each in (of_d, of_ties)]
        level = means @ p[:k] / prior.level**2
        of_weights = differences.T @ of_d + means.T @ level
        gradient = np.concatenate([of_weights, [of_d.sum(), of_ties.sum()], *own])
        loss = precision @ p**2 / 2 + level @ level * prior.level**2 / 2 - (logp * chosen).sum()
        return float(loss), gradient + precision * p

    start = np.zeros(len(precision))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-10, "gtol": _TIGHT})
    p = found.x
    return Davidson(p[:k], float(p[k]), float(p[k + 1]), p[k + 2 : k + 2 + raters], p[k + 2 + raters :])


def _logits(d: np.ndarray, ties: np.ndarray) -> np.ndarray:
    return np.stack([d / 2, -d / 2, ties], axis=1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
