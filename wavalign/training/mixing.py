"""How much of each step is preference and how much is demonstration: one small class for each rule.

A controller sees the rewards of all rollout groups of all processes, so it gives the same weights everywhere, and its
state is part of a checkpoint. ``rl`` is lambda_t of arXiv 2604.14932, eq. 8; the anchor's weight is 1 - lambda_t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

BEST, WORST = 5.0, 1.0
LARGEST_VARIANCE = ((BEST - WORST) / 2) ** 2
"""Of rewards between 1 and 5 (half at each end): 4, the divisor of eq. 9."""


@dataclass(frozen=True)
class RolloutStats:
    """``rewards`` float (P, K) of all prompts of a step (NaN = failed), ``step`` from 0."""

    step: int
    rewards: np.ndarray


@dataclass(frozen=True)
class MixWeights:
    """``rl`` and ``anchor`` (P,): the weight of each prompt's preference term and of its demonstration.

    ``tokens`` "chord" weighs each demonstrated token by p (1 - p) as well. ``report`` are metrics under ``mix/``.
    """

    rl: np.ndarray
    anchor: np.ndarray
    tokens: Literal["plain", "chord"] = "plain"
    report: Mapping[str, float] = field(default_factory=dict)


class MixController(Protocol):
    def update(self, stats: RolloutStats) -> MixWeights:
        """The weights of this step."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as plain JSON."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class FixedMix(_Settings):
    """One weight for the whole run."""

    kind: Literal["fixed"] = "fixed"
    rl: float = Field(0.5, ge=0, le=1)
    """Weight of the preference term; the anchor gets the rest."""

    def controller(self) -> MixController:
        return _Stateless(lambda stats: _uniformly(self.rl, stats))


class ScheduleMix(_Settings):
    """A weight that depends on time alone: the anchor warms up to a peak, then falls by a cosine (CHORD-mu)."""

    kind: Literal["schedule"] = "schedule"
    anchor_peak: float = Field(0.9, ge=0, le=1)
    """The anchor's weight after the warm-up."""
    anchor_valley: float = Field(0.05, ge=0, le=1)
    """The anchor's weight at the end of the decay."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the anchor's weight rises from 0 to its peak."""
    decay_steps: int = Field(200, ge=1)
    """Steps of the cosine from peak to valley."""

    def anchor(self, step: int) -> float:
        """mu of arXiv 2508.11408 at ``step``."""
        if step < self.warmup_steps:
            return self.anchor_peak * (step + 1) / self.warmup_steps
        share = min(1.0, (step - self.warmup_steps) / self.decay_steps)
        return self.anchor_valley + (self.anchor_peak - self.anchor_valley) * 0.5 * (1 + math.cos(math.pi * share))

    def controller(self) -> MixController:
        return _Stateless(lambda stats: _uniformly(1 - self.anchor(stats.step), stats))


class ChordMix(_Settings):
    """CHORD-phi (arXiv 2508.11408): a constant weight, and every demonstrated token weighed by p (1 - p)."""

    kind: Literal["chord"] = "chord"
    anchor: float = Field(0.1, ge=0, le=1)
    """The anchor's weight."""

    def controller(self) -> MixController:
        def weights(stats: RolloutStats) -> MixWeights:
            plain = _uniformly(1 - self.anchor, stats)
            return MixWeights(plain.rl, plain.anchor, "chord", plain.report)

        return _Stateless(weights)


class HptMix(_Settings):
    """HPT (arXiv 2509.04419): prompts that are solved often enough are for preference, others for teaching."""

    kind: Literal["hpt"] = "hpt"
    solved_at: float = Field(4.0, ge=1, le=5)
    """A rollout with this reward or more counts as solved."""
    most_unsolved: float = Field(0.0, ge=0, lt=1)
    """Up to this share of solved rollouts a prompt is taught by its demonstration only."""

    def controller(self) -> MixController:
        return _Stateless(self._weights)

    def _weights(self, stats: RolloutStats) -> MixWeights:
        known = np.isfinite(stats.rewards)
        solved = (known & (np.where(known, stats.rewards, -np.inf) >= self.solved_at)).sum(1)
        share = solved / np.maximum(known.sum(1), 1)
        rl = (share > self.most_unsolved).astype(float)
        return MixWeights(rl, 1 - rl, report={"lambda": float(rl.mean()), "solve_rate": float(share.mean())})


class WavAlignMix(_Settings):
    """The paper's rule (arXiv 2604.14932, eq. 9-12): lambda follows the best reward and the spread of each group."""

    kind: Literal["wavalign"] = "wavalign"
    lambda_max: float = Field(0.8, ge=0, le=1)
    """The most that the preference term can weigh."""
    alpha: float = Field(0.9, ge=0, lt=1)
    """Memory of the moving average over steps; 0 switches it off."""
    threshold: float = 3.0
    """The best reward of a group at which the direction gate is half open ("acceptable")."""
    sharpness: float = Field(5.0, gt=0)
    """k of the direction gate; the paper does not give it, its code uses 5."""
    variance: float = Field(LARGEST_VARIANCE, gt=0)
    """The variance of a group's rewards at which the information gate is wide open: 4 in the paper, the largest
    possible. Rewards that never spread so far need less."""

    def gates(self, rewards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Direction gate sigmoid(k (max - threshold)) and information gate clip(var / variance, 0, 1), each (P,).

        Failed rewards are left out; a group without any known reward has NaN for both. The variance is the
        population's.
        """
        known = np.isfinite(rewards)
        count = known.sum(1)
        best = np.where(known, rewards, -np.inf).max(1)
        mean = np.where(known, rewards, 0.0).sum(1) / np.maximum(count, 1)
        variance = np.where(known, (rewards - mean[:, None]) ** 2, 0.0).sum(1) / np.maximum(count, 1)
        direction = 1 / (1 + np.exp(-self.sharpness * (best - self.threshold)))
        information = np.clip(variance / self.variance, 0, 1)
        return np.where(count > 0, direction, np.nan), np.where(count > 0, information, np.nan)

    def controller(self) -> MixController:
        return _WavAlign(self)


class _WavAlign:
    """Keeps lambda_(t-1). The first step takes lambda_raw itself; a step whose rewards all failed keeps lambda."""

    def __init__(self, settings: WavAlignMix) -> None:
        self.settings = settings
        self.value: float | None = None

    def update(self, stats: RolloutStats) -> MixWeights:
        s = self.settings
        with np.errstate(over="ignore"):
            direction, information = s.gates(stats.rewards)
        usable = np.isfinite(direction)
        report: dict[str, float] = {}
        if usable.any():
            raw = float((s.lambda_max * direction[usable] * information[usable]).mean())
            self.value = raw if self.value is None else (1 - s.alpha) * raw + s.alpha * self.value
            report = {
                "lambda_raw": raw,
                "reward_gate": float(direction[usable].mean()),
                "info_gate": float(information[usable].mean()),
            }
        weights = _uniformly(self.value or 0.0, stats)
        return MixWeights(weights.rl, weights.anchor, report={**weights.report, **report})

    def state_dict(self) -> dict[str, Any]:
        return {"lambda": self.value}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value = state["lambda"]


class _Stateless:
    def __init__(self, rule: Any) -> None:
        self.update = rule

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"This mix keeps no state, but the checkpoint holds {sorted(state)}.")


def _uniformly(rl: float, stats: RolloutStats) -> MixWeights:
    prompts = len(stats.rewards)
    return MixWeights(np.full(prompts, rl), np.full(prompts, 1 - rl), report={"lambda": rl})


MixConfig = Annotated[FixedMix | ScheduleMix | WavAlignMix | ChordMix | HptMix, Field(discriminator="kind")]
