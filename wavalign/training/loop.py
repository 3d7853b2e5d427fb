"""The training loop, read from top to bottom: sample, reward, weigh, one forward, one step; then measure and save.

    python -m wavalign.train wavalign/recipes/wavalign.yaml
    torchrun --nproc-per-node 2 -m wavalign.train wavalign/recipes/wavalign.yaml --folder runs/two

A step is a pure function of the weights, the optimiser, lambda and the step's number: prompts are drawn by position,
replies and dropout are seeded by step. So a run that is resumed from a checkpoint goes on exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from wavalign.rewards.combine import RewardMix
from wavalign.rewards.registry import RewardContext
from wavalign.training import checkpoints, sharding
from wavalign.training.batch import Completion, Unit, flatten, micro_batches
from wavalign.training.config import ConfigError, HybridMethod, LoraTuning, TrainConfig
from wavalign.training.credit import refuse_idle
from wavalign.training.data import load_examples
from wavalign.training.evaluate import Evaluator
from wavalign.training.examples import Example
from wavalign.training.hybrid import Hybrid
from wavalign.training.job_memory import refuse_if_too_large
from wavalign.training.journal import ADAPTER, CHECKPOINTS, SAMPLES, Journal
from wavalign.training.kept_replies import KeptReplies
from wavalign.training.memory import peak_memory
from wavalign.training.mirrors import mirrors_of
from wavalign.training.optimiser import optimiser_of
from wavalign.training.order import Order
from wavalign.training.plan import Method, Plan, Scores
from wavalign.training.preference import Preference, refuse_unpaired
from wavalign.training.provenance import provenance_of
from wavalign.training.rollouts import Local, Rewarded, Sampler, step_seed
from wavalign.training.same_run import refuse_another
from wavalign.training.schedule import learning_rate
from wavalign.training.served_rollouts import Served
from wavalign.training.stopping import StopRequest
from wavalign.training.trainee import POLICY, REFERENCE, Trainee, registry_of
from wavalign.training.world import Accelerated, share

OPTIMISER = "optimiser.pt"


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why and what to do."""


class Trainer:
    """One run of ``config`` in the folder of ``journal``; everything that can be refused is refused here.

    ``step`` counts the steps that are done. ``replies`` is a folder of ``KeptReplies``, for runs whose replies are all
    the untrained model's.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        assets: Path,
        home: Path | None = None,
        quiet: bool = False,
        journal: Journal | None = None,
        replies: Path | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.quiet = quiet
        self.accelerator = sharding.accelerator_of(config)
        self.world = Accelerated(self.accelerator)
        self.main = self.accelerator.is_main_process
        self.journal = journal if journal or not self.main else Journal(folder)
        self.places = share(config.batch, self.world)
        assets = config.assets or assets
        self.data = load_examples(config.data, assets)
        self.order = Order(len(self.data), config.data.seed, config.data.shuffle)
        context = RewardContext(assets, home=home)
        self.rewards = RewardMix.of(config.rewards, context)
        sampled = config.method.samples
        self.text_only = sampled and config.stops_with_text(self.rewards.needs_audio)
        registry = registry_of(config, assets, home)
        needs_reference = not isinstance(config.method, HybridMethod) or (
            config.method.preference.kl_text > 0 or config.method.preference.kl_speech > 0
        )
        shards = self.accelerator.num_processes if sharding.is_sharding(self.accelerator) else 1
        if shards > 1 and config.optimiser.states != "float32":
            raise ConfigError("optimiser.states is 8bit, which does not go with weights that processes share out.")
        refuse_if_too_large(config, registry.checkpoint(config.base), str(self.accelerator.device), shards)
        self.trainee = Trainee(config, registry, self.accelerator.device, needs_reference)
        context.base = self.trainee.base if isinstance(config.tuning, LoraTuning) else None
        self.method = self._method()
        policy = self.trainee.policy if self.method.on_policy else self.trainee.sampled_reference
        checkpoint = POLICY if self.method.on_policy else REFERENCE
        self.served: Served | None = None
        if config.rollouts.source == "served" and self.method.samples:
            self.served = Served(
                config.rollouts.server, folder.resolve().name, folder, self.trainee, self.world, self._event
            )
        source = self.served or Local(policy, checkpoint, config.rollouts.rows_at_once, self.trainee.gathered)
        self.sampler = Sampler(policy, source, config.rollouts, self.rewards, bool(self.text_only))
        frozen = self.method.samples and not self.method.on_policy
        self.kept: KeptReplies | None = None
        if replies and frozen:
            device = str(self.accelerator.device)
            self.kept = KeptReplies(replies, config, policy, self.method.samples, bool(self.text_only), device)
        self.evaluator: Evaluator | None = None
        if config.evaluation.every:
            held_out = load_examples(config.evaluation.data, assets)
            self.evaluator = Evaluator(config.evaluation, self.trainee, held_out, config.rewards, context, self.world)
        self.optimiser = optimiser_of(config.optimiser, self.trainee.parameters)
        if sharding.is_sharding(self.accelerator):
            base = self.trainee.base
            sharding.check_layout(base.name, self.trainee.origin.layout, getattr(base, "heard", None) is not None)
        self.trainee.module, self.optimiser = sharding.prepare(
            self.accelerator, self.trainee.base.model, self.optimiser
        )
        if self.trainee.frozen is not None:
            sharding.share_out(self.accelerator, self.trainee.frozen.model)
        self.step = 0
        self.tokens = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.idle_in_a_row = 0
        self.broken: set[str] = set()
        self.stop = StopRequest()

    def run(self) -> str:
        """Trains to the end or to a request to stop; returns "completed" or "stopped".

        Raises:
            TrainingError, RewardError: when it cannot go on.
            ConfigError: when its checkpoint is of a run with other settings.
        """
        mirrors = mirrors_of(self.config, self.folder) if self.main else []
        self._resume()
        self._say_how()
        if self.main:
            self.journal.heartbeat(self.step)
        started = time.monotonic()
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            desc=self.config.name,
            disable=self.quiet or not self.main,
            mininterval=1,
            smoothing=0.1,
        )
        with bar:
            if self.step == 0 and self.evaluator:
                self._log(mirrors, self._evaluate())
            while self.step < self.config.steps and not self._stopping():
                metrics = self._one_step()
                self.step += 1
                if self._due(self.config.evaluation.every if self.evaluator else 0):
                    metrics |= self._evaluate()
                self._log(mirrors, metrics)
                bar.update()
                bar.set_postfix_str(_shown(metrics))
                # A process that alone knows of a request to stop must not save alone: all of them agree first.
                if self._due(self.config.checkpoints.every):
                    self._save()
        if self.served:
            self.served.close()
        return self._finish(mirrors, time.monotonic() - started)

    def _one_step(self) -> dict[str, float]:
        started = time.perf_counter()
        config, method = self.config, self.method
        first = self.step * config.batch
        examples = [self.data[self.order[first + place]] for place in self.places]
        rewarded = None
        self.sampler.seconds = {}
        if method.samples:
            rewarded = self._replies(examples)
            self._count_failures(rewarded.failed)
        planned = time.perf_counter()
        plan = method.plan(self.step, examples, rewarded, self.world)
        metrics = dict(plan.metrics)
        seconds = {**self.sampler.seconds, "forward": 0.0, "optimiser": 0.0, "plan": time.perf_counter() - planned}
        metrics |= self._learn(plan, seconds)
        read = sum(len(unit.prompt) + sum(len(c.tokens) for c in unit.completions) for unit in plan.units)
        self.tokens += sum(self.world.gather(read))
        metrics |= {f"perf/{phase}_s": value for phase, value in seconds.items()}
        metrics |= self.served.metrics() if self.served else {}
        metrics |= peak_memory(self.accelerator.device)
        metrics["num_tokens"] = float(self.tokens)
        metrics["epoch"] = (self.step + 1) * config.batch / len(self.data)
        metrics["step_time"] = time.perf_counter() - started
        return metrics

    def _replies(self, examples: list[Example]) -> Rewarded:
        """Replies with their rewards: sampled, or those that were kept."""
        seed, first = step_seed(self.config.seed, self.step), self.places.start
        if self.kept:
            known = self.kept.load(examples, seed, first)
            # Sampling brings shared-out weights together, for which every process is needed.
            if all(self.world.gather(known is not None)):
                rewarded, self.sampler.seconds["kept_cpu"] = known
                self.rewards.passed({name: int(np.isfinite(scores).sum()) for name, scores in rewarded.parts.items()})
                return rewarded
        began = time.process_time()
        if self.served:
            self.served.update(self.step)
        groups = self.sampler.sample(examples, self.method.samples, seed, first)
        rewarded = self.sampler.reward(groups, self.step)
        if self.kept and (why := self.kept.save(rewarded, seed, first, time.process_time() - began)):
            self._event("replies not kept", step=self.step + 1, reason=why)
        return rewarded

    def _learn(self, plan: Plan, seconds: dict[str, float]) -> dict[str, float]:
        """The optimiser steps on one batch; metrics of the last of them."""
        metrics = {"loss": 0.0}  # a batch without preference pairs teaches nothing
        # A forward of which no token is wanted (uniform groups that DAPO leaves out, failed rewards) has no gradient.
        units = [unit for unit in plan.units if any(len(each.wanted) for each in unit.completions)]
        groups = [[units[place] for place in each] for each in micro_batches(units, self.config.micro_batch)]
        # Every process takes part in as many forwards as the one with the most work.
        most = max(self.world.gather(len(groups)))
        self._count_idle(most == 0)
        groups += [[_nothing()]] * (most - len(groups))
        old: list[torch.Tensor | None] = [None] * most
        references: list[torch.Tensor | None] = [None] * most
        updates = self.config.rollouts.updates if self.method.samples else 1
        for update in range(updates if most else 0):
            began = time.perf_counter()
            torch.manual_seed(step_seed(self.config.seed, self.step) % 2**31 + update)
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
            metrics |= self._update(metrics["loss"])
            seconds["optimiser"] += time.perf_counter() - began
        return metrics

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

    def _update(self, loss: float) -> dict[str, float]:
        """One optimiser step, or none where the loss or the gradient is not a number."""
        settings = self.config.optimiser
        rate = learning_rate(settings, self.step, self.config.steps)
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
            self._event("skipped", step=self.step + 1, loss=str(loss), grad_norm=str(norm))
        self.optimiser.zero_grad(set_to_none=True)
        if sound:
            self.trainee.stepped()
        if self.skipped_in_a_row > self.config.limits.non_finite_steps:
            raise TrainingError(
                f"The loss or its gradient was not a number in {self.skipped_in_a_row} steps in a row; the last "
                "checkpoint is from before. Lower optimiser.lr, or look at the rewards."
            )
        return {"grad_norm": norm, "learning_rate": rate, "skipped_steps": float(self.skipped)}

    def _count_idle(self, idle: bool) -> None:
        """Raises:
        TrainingError: when a run has nothing to learn from in too many steps in a row.
        """
        self.idle_in_a_row = self.idle_in_a_row + 1 if idle else 0
        if idle:
            self._event("idle", step=self.step + 1)
        if self.idle_in_a_row > self.config.limits.idle_steps:
            raise TrainingError(
                f"Nothing was learnt in {self.idle_in_a_row} steps in a row: no demonstration, no preference pair, no "
                "reply whose reward counts. Look at the data's targets, at rewards.weights, or at "
                "method.pairs.least_gap."
            )

    def _evaluate(self) -> dict[str, float]:
        started = time.perf_counter()
        samples = self.folder / SAMPLES / f"step-{self.step}" if self.main else None
        with self.trainee.gathered():
            metrics = self.evaluator.run(samples)
        for name, change in self.evaluator.broken_guards(metrics).items():
            if name not in self.broken:
                self.broken.add(name)
                self._event("guard", step=self.step, measure=name, worse_by=change)
        self._event("evaluated", step=self.step, seconds=round(time.perf_counter() - started, 2))
        return metrics

    def _save(self) -> None:
        state = {
            "config": self.config.model_dump(mode="json"),
            "examples": len(self.data),
            "method": self.method.state_dict(),
            "tokens": self.tokens,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "idle_in_a_row": self.idle_in_a_row,
            "baseline": self.evaluator.baseline if self.evaluator else {},
            "broken": sorted(self.broken),
            "rewards": self.world.gather(self.rewards.state()),
        }
        weights, optimiser = self.trainee.state(self.main), sharding.optimiser_state(self.optimiser)
        if self.main:
            place = self.folder / CHECKPOINTS
            checkpoints.save(place, self.step, state, lambda folder: self._write(folder, weights, optimiser))
            checkpoints.prune(place, self.config.checkpoints.keep)
            self._event("saved", step=self.step)
        self.accelerator.wait_for_everyone()

    def _write(self, folder: Path, weights: Mapping[str, Any] | None, optimiser: Mapping[str, Any]) -> None:
        self.trainee.save_state(folder, weights)
        torch.save(optimiser, folder / OPTIMISER)

    def _resume(self) -> None:
        saved = checkpoints.latest(self.folder / CHECKPOINTS)
        if saved is None:
            self._event("started", config=self.config.name, processes=self.world.size)
            return
        self.step = saved.step
        refuse_another(saved.state.get("config"), self.config)
        if saved.state.get("examples", len(self.data)) != len(self.data):
            raise ConfigError(
                f"The run was begun on {saved.state['examples']} examples, and its data have {len(self.data)} now. "
                "Make them again as they were, or start a new run."
            )
        self.trainee.load_state(saved.folder)
        optimiser = torch.load(saved.folder / OPTIMISER, map_location="cpu", weights_only=True)
        sharding.set_optimiser_state(self.optimiser, optimiser, self.trainee.parameters)
        state = saved.state
        self.tokens = state["tokens"]
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self.idle_in_a_row = state.get("idle_in_a_row", 0)
        self.method.load_state_dict(state["method"])
        self.broken = set(state["broken"])
        if self.evaluator:
            self.evaluator.baseline = dict(state["baseline"])
        if len(state["rewards"]) == self.world.size:
            self.rewards.restore(state["rewards"][self.world.rank])
        self._event("resumed", step=self.step, processes=self.world.size)

    def _stopping(self) -> bool:
        """Whether any process was asked to stop; all of them then do, at the same step."""
        if self.main and self.journal.asked_to_stop():
            self.stop.ask("asked to stop")
        reasons = [reason for reason in self.world.gather(self.stop.reason) if reason]
        if reasons:
            self.stop.ask(reasons[0])
        return bool(reasons)

    def _finish(self, mirrors: list, seconds: float) -> str:
        done = self.step >= self.config.steps
        saved = checkpoints.latest(self.folder / CHECKPOINTS)
        if saved is None or saved.step != self.step:
            self._save()
        weights = self.trainee.state(self.main, exporting=True)
        if self.main:
            provenance = provenance_of(self.config, self.folder, self.step, self.trainee)
            self.trainee.export(self.folder / ADAPTER, provenance, weights)
            for mirror in mirrors:
                mirror.close()
            self.journal.answered_stop()
            status, reason = ("completed", "all steps are done") if done else ("stopped", self.stop.reason)
            self._event(status, step=self.step)
            self.journal.result(status, reason, self.step, adapter=ADAPTER, seconds=round(seconds, 1))
        self.accelerator.wait_for_everyone()
        return "completed" if done else "stopped"

    def _method(self) -> Method:
        method, policy = self.config.method, self.trainee.policy
        if isinstance(method, HybridMethod):
            rollouts = self.config.rollouts
            refuse_idle(method.preference, self.rewards, policy.speech_in_order)
            truncate = rollouts.server.truncate if rollouts.source == "served" else None
            return Hybrid(method, policy, rollouts.group_size, rollouts.max_tokens, truncate)
        refuse_unpaired(method, self.rewards)
        return Preference(method, policy)

    def _say_how(self) -> None:
        if not self.main:
            return
        left_out = [str(row) for row in self.data.unreadable]
        facts: dict[str, Any] = {
            "examples": len(self.data),
            "unreadable_rows": left_out,
            "trained_parameters": sum(p.numel() for p in self.trainee.parameters),
            "precision": str(self.trainee.precision or torch.float32),
            "packed_rows": self.trainee.packed,
            "parameters_held": sum(sharding.own(p).numel() for p in self.trainee.base.model.parameters()),
        }
        if self.method.samples:
            facts["replies_end_with_their_text"] = bool(self.text_only)
        self._event("prepared", **facts)
        if not self.quiet:
            how = f"{facts['examples']} prompts, {facts['trained_parameters']:,} trained parameters"
            how += "; replies are sampled to the end of their text only" if self.text_only else ""
            how += f"; {len(left_out)} rows cannot be used and are in events.jsonl" if left_out else ""
            tqdm.write(f"{self.config.name}: {how}.")

    def _count_failures(self, places: Mapping[str, Any]) -> None:
        failed = {name: int(each.sum()) for name, each in places.items()}
        if any(failed.values()):
            self._event("failed rewards", step=self.step + 1, **{name: n for name, n in failed.items() if n})

    def _due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.config.steps)

    def _log(self, mirrors: list, metrics: Mapping[str, float]) -> None:
        if self.main:
            self.journal.metrics(self.step, metrics)
            self.journal.heartbeat(self.step)
            for mirror in mirrors:
                mirror.log(self.step, metrics)

    def _event(self, kind: str, **facts: Any) -> None:
        if self.main:
            self.journal.event(kind, **facts)


def _nothing() -> Unit:
    """A forward of which nothing is learned, for a process that has no more work of its own."""
    token = Completion([0, 0], np.full(2, -1, dtype=np.int8))  # of no channel: it is in no metric
    token.divergence[0] = 1e-30
    return Unit([0], [token])


def _shown(metrics: Mapping[str, float]) -> str:
    names = {"reward": "reward", "mix/lambda": "lambda", "loss/sft_speech": "speech", "eval/semantic/accuracy": "right"}
    return " ".join(f"{label} {metrics[name]:.2f}" for name, label in names.items() if name in metrics)
