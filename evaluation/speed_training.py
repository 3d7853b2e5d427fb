"""Our training step against that of TRL's GRPOTrainer: same model, adapter, prompts, group size, lengths and updates.

Both sides sample, reward by a rule that costs nothing, and take one AdamW step on a LoRA adapter; ours anchors on the
demonstrations as well. TRL's replies are held at the mean length of ours. The sides take turns, step by step.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.figures import Figure, Section, Target
from evaluation.speed_timing import SpeedOptions, median_ratio
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import load_config, recipes
from wavalign.training.loop import Trainer

WARM_UP = 2
TARGET = Target(low=2.0)
PHASES = ("sampling", "decoding", "rewards", "plan", "forward", "optimiser")
OVERRIDES = (
    "evaluation.every=0",
    "checkpoints.every=1000000",
    "tuning.kind=lora",
    "tuning.rank=64",
    "tuning.alpha=64",
)


def training(options: SpeedOptions, changes: Sequence[str] = ()) -> Section:
    """``step_ratio``, the phases of our step, and the peak memory of a step of each side.

    ``changes`` are fields of the job, as on the command line.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import trl  # noqa: F401
    except ImportError as error:
        raise RuntimeError("TRL is needed to compare with; pip install -r requirements-dev.txt") from error
    config = load_config(recipes()["wavalign"], [*OVERRIDES, f"base={options.checkpoint}", *changes])
    with tempfile.TemporaryDirectory() as folder:
        ours = Trainer(config, Path(folder) / "ours", options.assets, options.home, quiet=True)
        lengths, phases, seconds = [], {name: [] for name in PHASES}, {"ours": [], "trl": []}
        read: list[float] = []
        peaks: dict[str, list[float]] = {"ours": [], "trl": []}

        def our_step() -> dict[str, float]:
            metrics = ours._one_step()
            ours.step += 1
            return metrics

        for _ in range(WARM_UP):
            lengths.append(our_step()["completions/mean_length"])
        length = round(statistics.mean(lengths))
        steps = WARM_UP + options.turns

        def after_their_step(number: int, took: float, peak: float) -> None:
            metrics, ours_took, ours_peak = measured(our_step)
            if number < WARM_UP:
                read[:] = [metrics["num_tokens"]]  # what the next steps count on from
                return
            seconds["trl"].append(took)
            seconds["ours"].append(ours_took)
            peaks["trl"].append(peak)
            peaks["ours"].append(ours_peak)
            read.append(metrics["num_tokens"])
            for name in PHASES:
                phases[name].append(metrics.get(f"perf/{name}_s", 0.0))

        _train_with_trl(ours, config, length, steps, Path(folder) / "trl", after_their_step)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    note = f"{config.batch} prompts x {config.rollouts.group_size} replies of about {length} tokens; only ours anchors"
    figures = [
        Figure(
            "step_ratio",
            "a step, TRL over ours",
            median_ratio(seconds["trl"], seconds["ours"]),
            n=options.turns,
            target=TARGET,
            note=note,
        ),
        Figure("read_tokens", "tokens that our step reads, prompts included", (read[-1] - read[0]) / options.turns),
        Figure("sampled_tokens", "tokens that it samples", float(config.batch * config.rollouts.group_size * length)),
        Figure("ours_step", "our step", median["ours"], "s"),
        Figure("trl_step", "TRL's step", median["trl"], "s"),
        *(Figure(f"ours_{name}", f"of ours: {name}", statistics.median(phases[name]), "s") for name in PHASES),
    ]
    if all(peak > 0 for each in peaks.values() for peak in each):
        memory = {name: statistics.median(each) / 1e6 for name, each in peaks.items()}
        figures += [
            Figure("memory_ratio", "peak memory of a step, ours over TRL", memory["ours"] / memory["trl"]),
            Figure("ours_memory", "our step, above what was held before", memory["ours"], "MB"),
            Figure("trl_memory", "TRL's step, above what was held before", memory["trl"], "MB"),
        ]
    return Section("A training step against TRL's GRPOTrainer", tuple(figures))


def _train_with_trl(
    ours: Trainer,
    config: TrainConfig,
    length: int,
    steps: int,
    folder: Path,
    after: Callable[[int, float, float], None],
) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    trainee, policy = ours.trainee, ours.trainee.policy
    prompts = [ours.data[ours.order[place]] for place in range(config.batch * steps)]
    rows = Dataset.from_dict(
        {"prompt": [_as_text(trainee.base.tokenizer, policy.encode_prompt(e.prompt)) for e in prompts]}
    )
    group, rows_a_step = config.rollouts.group_size, config.batch * config.rollouts.group_size
    settings = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=rows_a_step,
        num_generations=group,
        max_completion_length=length,
        generation_kwargs={"min_new_tokens": length},
        temperature=config.rollouts.temperature,
        beta=0.0,
        loss_type="grpo",
        learning_rate=config.optimiser.lr,
        max_steps=steps,
        use_cpu=trainee.device.type == "cpu",
        bf16=trainee.precision is torch.bfloat16,
        gradient_checkpointing=False,
        shuffle_dataset=False,
        report_to=[],
        save_strategy="no",
        logging_steps=steps + 1,
        disable_tqdm=True,
    )
    adapter = LoraConfig(r=64, lora_alpha=64, target_modules=policy.lora_targets(), task_type="CAUSAL_LM")

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.number = 0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            _forget_peak()
            self.before = _resident()
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            took = time.perf_counter() - self.started
            after(self.number, took, _peak() - self.before)
            self.number += 1

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(trainee.origin.base), dtype=trainee.network.dtype),
        reward_funcs=_length_of_text,
        args=settings,
        train_dataset=rows,
        processing_class=trainee.base.tokenizer,
        peft_config=adapter,
        callbacks=[Clock()],
    )
    trainer.train()


def _as_text(tokenizer: Any, ids: list[int]) -> str:
    """A text that TRL's side turns into exactly these ids."""
    text = " ".join(tokenizer.convert_ids_to_tokens(ids))
    if tokenizer(text)["input_ids"] != ids:
        raise RuntimeError("The tokenizer does not give a prompt's ids back; the sides would not read the same.")
    return text


def _length_of_text(completions: list[str], **_: Any) -> list[float]:
    """Any reward that differs within a group: the step must not be without a gradient."""
    return [1.0 + sum(map(ord, text)) % 5 for text in completions]


def measured(step: Callable[[], Any]) -> tuple[Any, float, float]:
    """What ``step`` gives, its wall seconds, and its peak memory in bytes above what was held before."""
    _forget_peak()
    before, started = _resident(), time.perf_counter()
    result = step()
    return result, time.perf_counter() - started, _peak() - before


def _forget_peak() -> None:
    """Gives freed memory back, so that the next peak is the step's own (Linux; elsewhere peaks are not reported)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        pass


def _resident() -> float:
    return float(torch.cuda.memory_allocated()) if torch.cuda.is_available() else _status("VmRSS")


def _peak() -> float:
    return float(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else _status("VmHWM")


def _status(field: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((1024.0 * float(line.split()[1]) for line in lines if line.startswith(field)), 0.0)
