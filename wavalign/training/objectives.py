"""The objectives, as functions on tensors; they know nothing of loops, devices or where a mask came from.

Tokens of many completions stand in flat tensors of shape (N,). Every term is a weighted sum over tokens: the weights
hold the mask, the channel's share, lambda and the normaliser over the *global* batch (``wavalign.training.weights``),
so a loss does not depend on how the batch was cut into micro-batches or spread over processes.

Logarithms are natural. ``old`` are log-probabilities under the policy that sampled, ``reference`` under the frozen one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

#: Beyond this, exp() of a log-ratio is of no use to anybody and overflows; gradients there are clipped away anyway.
_LARGEST_LOG_RATIO = 20.0


@dataclass(frozen=True)
class Clip:
    """The trust region of the ratio: [1 - low, 1 + high]. DAPO's "clip higher" is high > low (arXiv 2503.14476)."""

    low: float = 0.2
    high: float = 0.2


@dataclass(frozen=True)
class Surrogate:
    """``loss`` (N,): minus the clipped gain of each token; ``clipped`` bool (N,): where the clip was active."""

    loss: torch.Tensor
    clipped: torch.Tensor


def clipped_surrogate(log_ratio: torch.Tensor, advantage: torch.Tensor, clip: Clip) -> Surrogate:
    """-min(rho A, clip(rho, 1 - low, 1 + high) A) with rho = exp(``log_ratio``), all of shape (N,).

    Eq. 3 of arXiv 2604.14932; PPO's clip (arXiv 1707.06347) in GRPO (arXiv 2402.03300).
    """
    ratio = log_ratio.clamp(max=_LARGEST_LOG_RATIO).exp()
    free, held = ratio * advantage, ratio.clamp(1 - clip.low, 1 + clip.high) * advantage
    return Surrogate(-torch.minimum(free, held), (held < free).detach())


def truncated_importance(log_ratio: torch.Tensor, truncate: float) -> torch.Tensor:
    """min(pi / mu, ``truncate``) of each token (N,), without gradient; 1 where ``log_ratio`` is not a number.

    ``log_ratio`` is log pi - log mu: the trainer's policy against the one that drew the token (another engine, an older
    adapter). Truncation bounds the variance at the price of a bias that vanishes as the two come together: Ionides,
    "Truncated importance sampling" (2008); the same weight as rho-bar of V-trace, arXiv 1802.01561, eq. 1.
    """
    ratio = log_ratio.detach().clamp(max=_LARGEST_LOG_RATIO).exp().clamp(max=truncate)
    return torch.where(log_ratio.isnan(), torch.ones_like(ratio), ratio)


def token_log_ratio(logp: torch.Tensor, old: torch.Tensor | None) -> torch.Tensor:
    """log rho of each token (N,). ``old`` None: the policy itself sampled, so rho is 1 and only its gradient counts."""
    return logp - (logp.detach() if old is None else old)


def sequence_log_ratio(log_ratio: torch.Tensor, row: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean log-ratio of a row's masked tokens, handed to each of its tokens (N,): GSPO, arXiv 2507.18071, eq. 7.

    ``row`` int64 (N,) numbers the completions; ``mask`` bool (N,). The gradient is spread over the row's masked tokens,
    as in eq. 10. Rows without masked tokens give 0.
    """
    rows = int(row.max()) + 1 if len(row) else 0
    weight = mask.to(log_ratio.dtype)
    counts = log_ratio.new_zeros(rows).index_add(0, row, weight).clamp(min=1)
    means = log_ratio.new_zeros(rows).index_add(0, row, log_ratio * weight) / counts
    return means[row]


def k3(logp: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """exp(d) - d - 1 with d = reference - logp, per token (N,): unbiased, never negative estimate of KL(policy || ref).

    Schulman, "Approximating KL divergence" (2020); used by GRPO.
    """
    difference = (reference - logp).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO)
    return difference.exp() - difference - 1


def negative_log_likelihood(logp: torch.Tensor) -> torch.Tensor:
    """-log p of each demonstrated token (N,); eq. 2 of arXiv 2604.14932."""
    return -logp


def weighted_sum(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The sum over tokens of value times weight, where the weight is not 0: a scalar, exactly 0 with no such token.

    A token without weight has no influence whatever its value is, infinite or not a number included.
    """
    return (torch.where(weights != 0, values, values.new_zeros(())) * weights).sum()


def row_sums(values: torch.Tensor, row: torch.Tensor, weights: torch.Tensor, rows: int) -> torch.Tensor:
    """Weighted sums (rows,) of each completion's tokens: s_M of eq. 6, arXiv 2604.14932, where weights are a mask."""
    kept = torch.where(weights != 0, values, values.new_zeros(())) * weights
    return values.new_zeros(rows).index_add(0, row, kept)


@dataclass(frozen=True)
class Preference:
    """DPO of P pairs: ``loss`` (P,), ``margin`` (P,) = the implicit reward of chosen minus that of rejected."""

    loss: torch.Tensor
    margin: torch.Tensor


def dpo(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    reference_chosen: torch.Tensor,
    reference_rejected: torch.Tensor,
    gamma: float,
) -> Preference:
    """-log sigmoid(gamma * delta), eq. 4 and 5 of arXiv 2604.14932 (arXiv 2305.18290).

    The four are summed log-probabilities (P,) of a pair's completions over the tokens that count: all of them, or those
    of one channel (eq. 6).
    """
    margin = gamma * ((chosen - rejected) - (reference_chosen - reference_rejected))
    return Preference(-F.logsigmoid(margin), margin.detach())


def chord_weight(logp: torch.Tensor) -> torch.Tensor:
    """phi = p (1 - p) of each demonstrated token (N,), without gradient: CHORD-phi, arXiv 2508.11408.

    Tokens that the policy already knows and tokens that it finds absurd both count little.
    """
    p = logp.detach().exp()
    return p * (1 - p)
