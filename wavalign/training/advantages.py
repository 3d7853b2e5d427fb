"""Rewards of groups to advantages. A reward that failed (NaN) is in no mean, no deviation and no update."""

from __future__ import annotations

from typing import Literal

import numpy as np

Scale = Literal["group", "none"]
EPSILON = 1e-4
"""Added to the standard deviation, as in the method's code and in TRL."""


def group_advantages(rewards: np.ndarray, scale: Scale = "group") -> np.ndarray:
    """(r - mean) / (std + 1e-4) within each group; ``scale`` "none" leaves out the division (Dr.GRPO, 2503.20783).

    ``rewards`` float (P, K): K rollouts of each of P prompts, NaN where the reward failed. The deviation is of the
    population. Failed rollouts get 0, and so does a group whose rewards are all alike or all failed.
    """
    known = np.isfinite(rewards)
    count = known.sum(1, keepdims=True)
    filled = np.where(known, rewards, 0.0)
    mean = filled.sum(1, keepdims=True) / np.maximum(count, 1)
    centred = np.where(known, rewards - mean, 0.0)
    # Equal rewards leave rounding in the mean (0.1 three times); it is not a preference.
    centred = np.where(_uniform(rewards, known), 0.0, centred)
    if scale == "none":
        return centred
    deviation = np.sqrt((centred**2).sum(1, keepdims=True) / np.maximum(count, 1))
    return centred / (deviation + EPSILON)


def uniform_groups(rewards: np.ndarray) -> np.ndarray:
    """bool (P,): groups without any difference among their known rewards; such a group teaches nothing."""
    return _uniform(rewards, np.isfinite(rewards))[:, 0]


def _uniform(rewards: np.ndarray, known: np.ndarray) -> np.ndarray:
    highest = np.where(known, rewards, -np.inf).max(1, keepdims=True)
    lowest = np.where(known, rewards, np.inf).min(1, keepdims=True)
    return ~(highest > lowest)
