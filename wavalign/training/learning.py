"""The optimiser steps on one batch, in micro-batches; counts those that are skipped or have nothing to learn from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from wavalign.training import sharding
from wavalign.training.batch import Completion, Unit, flatten, micro_batches
from wavalign.training.config import TrainConfig
from wavalign.training.plan import Method, Plan, Scores
from wavalign.training.rollouts import step_seed
from wavalign.training.schedule import learning_rate
from wavalign.training.trainee import Trainee
from wavalign.training.world import World


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why and what to do."""


class Learner:
    """Turns the plan of each training step into optimiser steps.

    ``event`` is told of optimiser steps that were skipped and of batches that had nothing to learn from.
    """

    def __init__(
        self,
        config: TrainConfig,
        trainee: Trainee,
        method: Method,
        optimiser: torch.optim.Optimizer,
        accelerator: Accelerator,
        world: World,
        event: Callable[..., None],
    ) -> None:
        self.config, self.trainee, self.method, self.optimiser = config, trainee, method, optimiser
        self.accelerator, self.world, self.event = accelerator, world, event
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.idle_in_a_row = 0

    def learn(self, step: int, plan: Plan, seconds: dict[str, float]) -> dict[str, float]:
        """Takes the optimiser steps on the batch of training step ``step`` (from 0); returns the last one's metrics.

        ``seconds`` gains what "forward" (with the backward pass) and "optimiser" took.

        Raises:
            TrainingError: when too many optimiser steps in a row were skipped, or too many batches taught nothing.
        """
        metrics = {"loss": 0.0}  # a batch without preference pairs teaches nothing
        # A forward of which no token is wanted (uniform groups that DAPO leaves out, failed rewards) has no gradient.
        units = [unit for unit in plan.units if any(len(each.wanted) for each in unit.completions)]
        groups = [[units[place] for place in each] for each in micro_batches(units, self.config.micro_batch)]
        # Every process takes part in as many forwards as the one with the most work.
        most = max(self.world.gather(len(groups)))
        self._count_idle(step, most == 0)
        groups += [[_nothing()]] * (most - len(groups))
        old: list[torch.Tensor | None] = [None] * most
        references: list[torch.Tensor | None] = [None] * most
        updates = self.config.rollouts.updates if self.method.samples else 1
        for update in range(updates if most else 0):
            began = time.perf_counter()
            torch.manual_seed(step_seed(self.config.seed, step) % 2**31 + update)
            total: dict[str, float] = {}
            value = 0.0
            for number, each in enumerate(groups):
                last = number + 1 == most
                if self.method.needs_reference and references[number] is None:
                    references[number] = self.trainee.reference_logprobs(each)
                if last:
                    part = self._backward(each, plan, references[number], old, number, updates)
                else:
                    with self.accelerator.no_sync(self.trainee.module):
                        part = self._backward(each, plan, references[number], old, number, updates)
                value += part.pop("value")
                for name, amount in part.items():
                    total[name] = total.get(name, 0.0) + amount
            everybody = self.world.gather({**total, "value": value})
            sums = {name: sum(each.get(name, 0.0) for each in everybody) for each_ in everybody for name in each_}
            seconds["forward"] += time.perf_counter() - began
            began = time.perf_counter()
            metrics = {"loss": sums.pop("value"), **self.method.metrics(sums)}
            metrics |= self._update(step, metrics["loss"])
            seconds["optimiser"] += time.perf_counter() - began
        return metrics

    def state_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in ("skipped", "skipped_in_a_row", "idle_in_a_row")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self.idle_in_a_row = state.get("idle_in_a_row", 0)

    def _backward(
        self,
        units: list[Unit],
        plan: Plan,
        reference: torch.Tensor | None,
        old: list[torch.Tensor | None],
        number: int,
        updates: int,
    ) -> dict[str, float]:
        scored = self.trainee.logprobs(units)
        flat = flatten(units, scored.logprobs.device)
        scores = Scores(scored.logprobs, scored.entropy, old[number], reference)
        loss = self.method.loss(flat, scores, plan)
        if updates > 1 and old[number] is None:
            old[number] = scored.logprobs.detach()
        # Gradients are averaged over processes, and the loss is a sum over them. A batch of which nothing is wanted
        # still takes part in the backward pass that everybody waits for.
        value = loss.value * self.world.size + 0.0 * scored.logprobs.sum()
        self.accelerator.backward(value)
        return {**loss.sums, "value": float(loss.value.detach())}

    def _update(self, step: int, loss: float) -> dict[str, float]:
        """One optimiser step, or none where the loss or the gradient is not a number."""
        settings = self.config.optimiser
        rate = learning_rate(settings, step, self.config.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        norm = self.accelerator.clip_grad_norm_(self.trainee.parameters, settings.max_grad_norm)
        norm = float(sharding.whole(norm))
        sound = math.isfinite(loss) and math.isfinite(norm)
        if sound:
            self.optimiser.step()
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
            self.event("skipped", step=step + 1, loss=str(loss), grad_norm=str(norm))
        self.optimiser.zero_grad(set_to_none=True)
        if sound:
            self.trainee.stepped()
        if self.skipped_in_a_row > self.config.limits.non_finite_steps:
            raise TrainingError(
                f"The loss or its gradient was not a number in {self.skipped_in_a_row} steps in a row; the last "
                "checkpoint is from before. Lower optimiser.lr, or look at the rewards."
            )
        return {"grad_norm": norm, "learning_rate": rate, "skipped_steps": float(self.skipped)}

    def _count_idle(self, step: int, idle: bool) -> None:
        """Raises:
        TrainingError: when a run has nothing to learn from in too many steps in a row.
        """
        self.idle_in_a_row = self.idle_in_a_row + 1 if idle else 0
        if idle:
            self.event("idle", step=step + 1)
        if self.idle_in_a_row > self.config.limits.idle_steps:
            raise TrainingError(
                f"Nothing was learnt in {self.idle_in_a_row} steps in a row: no demonstration, no preference pair, no "
                "reply whose reward counts. Look at the data's targets, at rewards.weights, or at "
                "method.pairs.least_gap."
            )


def _nothing() -> Unit:
    """A forward of which nothing is learned, for a process that has no more work of its own."""
    token = Completion([0, 0], np.full(2, -1, dtype=np.int8))  # of no channel: it is in no metric
    token.divergence[0] = 1e-30
    return Unit([0], [token])
