"""What one step is to learn: completions with their weights, ready for the forward, and what is known before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from wavalign.training.advantages import uniform_groups
from wavalign.training.batch import Flat, Unit
from wavalign.training.examples import Example
from wavalign.training.rollouts import Rewarded
from wavalign.training.world import World


@dataclass(frozen=True)
class Plan:
    """``units`` are this process's; ``metrics`` are of all processes. ``chord``: the channels (their numbers) whose
    demonstrations weigh by p (1 - p)."""

    units: list[Unit]
    metrics: Mapping[str, float] = field(default_factory=dict)
    chord: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scores:
    """Log-probabilities (N,) of a micro-batch: of the policy (with gradients), when sampled, and of the reference.

    ``old`` None: the policy itself sampled just now. ``reference`` None: nothing compares with it.
    """

    logp: torch.Tensor
    entropy: torch.Tensor
    old: torch.Tensor | None = None
    reference: torch.Tensor | None = None


@dataclass(frozen=True)
class Loss:
    """``value`` is to be summed over micro-batches and processes; ``sums`` are what metrics are made of, likewise."""

    value: torch.Tensor
    sums: Mapping[str, float]


class Method(Protocol):
    """How replies and demonstrations become a loss."""

    samples: int
    """Replies wanted for each prompt; 0 for none."""
    needs_reference: bool
    on_policy: bool
    """Whether the policy being trained is sampled, not the reference."""

    def plan(self, step: int, examples: list[Example], rewarded: Rewarded | None, world: World) -> Plan: ...

    def loss(self, flat: Flat, scores: Scores, plan: Plan) -> Loss: ...

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Metrics of a step from its summed ``Loss.sums``."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def reward_metrics(rewarded: Rewarded, world: World) -> dict[str, float]:
    """The names that TRL's users know, over all processes' replies; failed rewards are left out and counted."""
    mine = {
        "combined": rewarded.combined,
        "parts": dict(rewarded.parts),
        "failed": dict(rewarded.failed),
        "lengths": [len(r.tokens) for g in rewarded.groups for r in g.rollouts if r.tokens],
        "finished": [r.finished for g in rewarded.groups for r in g.rollouts if r.tokens],
    }
    everybody = world.gather(mine)
    combined = np.concatenate([each["combined"] for each in everybody])
    lengths = np.concatenate([each["lengths"] for each in everybody])
    finished = np.concatenate([each["finished"] for each in everybody])
    metrics = {"frac_reward_zero_std": float(uniform_groups(combined).mean())}
    if len(lengths):
        metrics |= {
            "completions/mean_length": float(lengths.mean()),
            "completions/min_length": float(lengths.min()),
            "completions/max_length": float(lengths.max()),
            "completions/clipped_ratio": float(1 - finished.mean()),
        }
    with np.errstate(invalid="ignore"):
        if np.isfinite(combined).any():
            counted = combined[np.isfinite(combined).any(1)]
            metrics["reward"] = float(np.nanmean(combined))
            metrics["reward_std"] = float(np.nanstd(counted, axis=1).mean())
        for name in mine["parts"]:
            scores = np.concatenate([each["parts"][name] for each in everybody])
            failed = np.concatenate([each["failed"][name] for each in everybody])
            asked = failed | np.isfinite(scores)
            metrics[f"rewards/{name}/failed_frac"] = float(failed.sum() / max(asked.sum(), 1))
            if np.isfinite(scores).any():
                metrics[f"rewards/{name}/mean"] = float(np.nanmean(scores))
                metrics[f"rewards/{name}/std"] = float(np.nanstd(scores))
    return metrics
