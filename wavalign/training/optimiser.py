"""AdamW (Loshchilov and Hutter 2019), its averages in float32 or in 8 bits (Dettmers et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from wavalign.training.config import ConfigError, Optimiser


def optimiser_of(settings: Optimiser, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """In 8 bits, tensors of fewer than 4096 numbers keep averages in float32: they are small, and norms need it.

    Raises:
        ConfigError: when 8 bits are asked for and bitsandbytes is not installed.
    """
    options = {
        "lr": settings.lr,
        "betas": settings.betas,
        "eps": settings.eps,
        "weight_decay": settings.weight_decay,
    }
    if settings.states == "float32":
        return torch.optim.AdamW(parameters, **options)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise ConfigError(
            "optimiser.states is 8bit, which needs bitsandbytes: pip install 'bitsandbytes>=0.48,<0.52', or choose "
            "float32."
        ) from error
    return AdamW8bit(parameters, **options)
