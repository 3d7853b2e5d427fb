"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from wavalign.training.config import Optimiser


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """The rate of ``step`` (from 0) of ``steps``: a linear warm-up, then down to ``floor`` times the peak."""
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    done = min(1.0, (step - settings.warmup) / max(1, steps - 1 - settings.warmup))
    share = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1 - done
    return settings.lr * (settings.floor + (1 - settings.floor) * share)
