"""Log-probabilities of chosen tokens from logits, with the vocabulary's softmax never kept."""

from __future__ import annotations

import torch

_LOGITS_AT_ONCE = 1 << 20
"""Elements that are turned to float32 together: they stay in a processor's cache, and little on a GPU."""


def chosen_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log p of ``targets`` (N,) and the entropy (N,) of each distribution, in nats and float32, from logits (N, V).

    Log-probabilities carry gradients, entropies do not. The logits are the only tensor of the vocabulary's size that is
    kept for the backward pass, and their gradient the only one it makes.
    """
    return _Chosen.apply(logits, targets)


class _Chosen(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count, size = logits.shape
        mass = torch.empty(count, device=logits.device)
        chosen, entropy = torch.empty_like(mass), torch.empty_like(mass)
        for part in _parts(count, size):
            scores = logits[part].float()
            total = scores.logsumexp(-1)
            mass[part] = total
            chosen[part] = scores.gather(-1, targets[part, None])[:, 0] - total
            likely = (scores - total[:, None]).exp_()
            # A token that is masked out (-inf) adds nothing, not 0 * inf.
            entropy[part] = total - torch.linalg.vecdot(likely, scores.clamp_(min=torch.finfo(scores.dtype).min))
        ctx.save_for_backward(logits, targets, mass)
        ctx.mark_non_differentiable(entropy)
        return chosen, entropy

    @staticmethod
    def backward(ctx, gradient: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits, targets, mass = ctx.saved_tensors
        out = torch.empty_like(logits)
        for part in _parts(*logits.shape):
            slope = gradient[part, None]
            likely = (logits[part].float() - mass[part, None]).exp_().mul_(-slope)
            out[part] = likely.scatter_add_(-1, targets[part, None], slope)
        return out, None


def _parts(count: int, size: int) -> list[slice]:
    rows = max(1, _LOGITS_AT_ONCE // size)
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]
