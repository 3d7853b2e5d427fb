"""How much memory this process has needed at most."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory(device: torch.device) -> dict[str, float]:
    """``memory/rss_gb`` (peak resident size) and, on a GPU, ``memory/gpu_gb`` (peak allocated), in 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    measures = {"memory/rss_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        measures["memory/gpu_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return measures
