"""The training loop, read from top to bottom: sample, reward, weigh, one forward, one step; then measure and save.

    python -m wavalign.train wavalign/recipes/wavalign.yaml
    torchrun --nproc-per-node 2 -m wavalign.train wavalign/recipes/wavalign.yaml --folder runs/two

A step is a pure function of the weights, the optimiser, lambda and the step's number: prompts are drawn by position,
replies and dropout are seeded by step. So a run that is resumed from a checkpoint goes on exactly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from wavalign.rewards.combine import RewardMix
from wavalign.rewards.registry import RewardContext
from wavalign.training import checkpoints, saving, sharding
from wavalign.training.config import ConfigError, HybridMethod, LoraTuning, TrainConfig
from wavalign.training.credit import refuse_idle
from wavalign.training.data import load_examples
from wavalign.training.evaluate import Evaluator
from wavalign.training.examples import Example
from wavalign.training.hybrid import Hybrid
from wavalign.training.job_memory import refuse_if_too_large
from wavalign.training.journal import ADAPTER, CHECKPOINTS, SAMPLES, Journal
from wavalign.training.kept_replies import KeptReplies
from wavalign.training.learning import Learner
from wavalign.training.memory import peak_memory
from wavalign.training.mirrors import mirrors_of
from wavalign.training.optimiser import optimiser_of
from wavalign.training.order import Order
from wavalign.training.plan import Method
from wavalign.training.preference import Preference, refuse_unpaired
from wavalign.training.provenance import provenance_of
from wavalign.training.rollouts import Local, Rewarded, Sampler, step_seed
from wavalign.training.same_run import NOT_COMPARED, data_state, refuse_another, refuse_other_data
from wavalign.training.served_rollouts import Served
from wavalign.training.stopping import StopRequest
from wavalign.training.trainee import POLICY, REFERENCE, Trainee, registry_of
from wavalign.training.world import Accelerated, share


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
        self.learner = Learner(
            config, self.trainee, self.method, self.optimiser, self.accelerator, self.world, self._event
        )
        self.step = 0
        self.tokens = 0
        self.broken: set[str] = set()
        self.stop = StopRequest()

    def run(self) -> str:
        """Trains to the end or to a request to stop; returns "completed" or "stopped".

        Raises:
            TrainingError, RewardError: when it cannot go on.
            ConfigError: when its checkpoint is of a run with other settings or other examples.
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
        metrics |= self.learner.learn(self.step, plan, seconds)
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
        saving.save(self.folder / CHECKPOINTS, self.step, self._state(), self.trainee, self.optimiser, self.main)
        if self.main:
            checkpoints.prune(self.folder / CHECKPOINTS, self.config.checkpoints.keep)
            self._event("saved", step=self.step)
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        saved = checkpoints.latest(self.folder / CHECKPOINTS)
        if saved is None:
            self._event("started", config=self.config.name, processes=self.world.size)
            return
        self.step = saved.step
        compared = {
            "settings": refuse_another(saved.state.get("config"), self.config),
            "examples": refuse_other_data(saved.state, self.data.ids),
        }
        saving.load(saved.folder, self.trainee, self.optimiser)
        self._load_state(saved.state)
        unknown = [what for what, known in compared.items() if not known]
        self._event("resumed", step=self.step, processes=self.world.size, not_compared=unknown)
        if unknown and self.main:
            tqdm.write(f"{self.config.name}: {NOT_COMPARED.format(what=' and '.join(unknown))}")

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            **data_state(self.data.ids),
            "method": self.method.state_dict(),
            "tokens": self.tokens,
            **self.learner.state_dict(),
            "baseline": self.evaluator.baseline if self.evaluator else {},
            "broken": sorted(self.broken),
            "rewards": self.world.gather(self.rewards.state()),
        }

    def _load_state(self, state: Mapping[str, Any]) -> None:
        self.tokens = state["tokens"]
        self.learner.load_state_dict(state)
        self.method.load_state_dict(state["method"])
        self.broken = set(state["broken"])
        if self.evaluator:
            self.evaluator.baseline = dict(state["baseline"])
        if len(state["rewards"]) == self.world.size:
            self.rewards.restore(state["rewards"][self.world.rank])

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


def _shown(metrics: Mapping[str, float]) -> str:
    names = {"reward": "reward", "mix/lambda": "lambda", "loss/sft_speech": "speech", "eval/semantic/accuracy": "right"}
    return " ".join(f"{label} {metrics[name]:.2f}" for name, label in names.items() if name in metrics)
