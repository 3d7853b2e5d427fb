"""One-dimensional ConvNeXt blocks (arXiv 2201.03545), channels last, with a chosen look-ahead."""

from __future__ import annotations

import torch
from torch import nn


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP, with a residual. (B, T, C) -> (B, T, C).

    ``look_ahead`` frames of the kernel lie in the future; None centres it. A finite sum of look-aheads is what makes
    a decoder streamable.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 7, look_ahead: int | None = None) -> None:
        super().__init__()
        ahead = kernel // 2 if look_ahead is None else look_ahead
        self.padding = (kernel - 1 - ahead, ahead)
        self.depthwise = nn.Conv1d(channels, channels, kernel, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up = nn.Linear(channels, hidden)
        self.down = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = nn.functional.pad(x.transpose(1, 2), self.padding)
        h = self.norm(self.depthwise(h).transpose(1, 2))
        return x + self.scale * self.down(nn.functional.gelu(self.up(h)))


class ConvNeXtStack(nn.Module):
    """Blocks in sequence with a final LayerNorm; ``mask`` (B, T) keeps padding at zero so that it cannot leak in."""

    def __init__(self, channels: int, hidden: int, look_aheads: list[int | None]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvNeXtBlock(channels, hidden, look_ahead=a) for a in look_aheads)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        for block in self.blocks:
            if mask is not None:
                x = x * mask[..., None]
            x = block(x)
        return self.norm(x)
