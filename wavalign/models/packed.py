"""Linear layers packed for a few rows of float32 on a CPU; what the processor and the weights allow decides how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

_PACK_FOR_ROWS = 16


@dataclass(frozen=True)
class Linear:
    """x (n, in) to a fresh (n, out). ``bytes_read`` is what one product reads of the weights."""

    multiply: Callable[[torch.Tensor], torch.Tensor]
    bytes_read: int


def pack(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """A copy of ``weight`` (out, in) and ``bias`` that multiplies fast; results differ by float32 rounding only."""
    weight = weight.detach().contiguous()
    bias = None if bias is None else bias.detach().clone()
    if _reads_halves() and torch.equal(weight.half().float(), weight):
        halves = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        multiply = _bare(torch.ops.quantized.linear_dynamic_fp16.default)
        return Linear(lambda x: multiply(x, halves), 2 * weight.numel())
    if torch.backends.mkldnn.is_available():
        blocked = torch.ops.mkldnn._reorder_linear_weight(weight, _PACK_FOR_ROWS)
        pointwise = _bare(torch.ops.mkldnn._linear_pointwise.default)
        return Linear(lambda x: pointwise(x, blocked, bias, "none", [], ""), 4 * weight.numel())
    kept = weight.clone()
    return Linear(lambda x: F.linear(x, kept, bias), 4 * weight.numel())


def _bare(operator: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The operator without what Python checks at every call for tracing; 17 calls make a token."""
    return getattr(operator, "_op", operator)


def _reads_halves() -> bool:
    """FBGEMM's products of float32 with float16 weights, accumulated in float32: x86 only."""
    return torch.backends.quantized.engine in ("x86", "fbgemm") and hasattr(torch.ops.quantized, "linear_dynamic_fp16")
