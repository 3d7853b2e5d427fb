"""A training step of ours on a checkpoint of any layout; TRL has none to stand beside it.

Replies are rewarded by a sum over their letters, which costs nothing and differs within a group. Random words seldom
come to an end, and a thinker's words are spoken when they do: how many words and codes were sampled is told beside the
time.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from evaluation.figures import Figure
from evaluation.speed_training import OVERRIDES, PHASES, WARM_UP, measured
from wavalign.models.protocol import TrainablePolicy
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import Answer
from wavalign.rewards.registry import REWARDS, RewardContext
from wavalign.training.channels import SPEECH, channels_of
from wavalign.training.config_files import load_config, recipes
from wavalign.training.loop import Trainer
from wavalign.training.plan import Plan

UNSUPPORTED = "unsupported"


class Letters:
    """A reward from 1 to 5 that random words differ in."""

    name = "random_letters"
    needs_audio = False
    channel = "text"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        pass

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [1.0 + sum(map(ord, answer.text)) % 5 for answer in answers]


class Measured(Protocol):
    """What is known of the layout of the policy in training."""

    def step_operations(self, prompt: int, words: int, codes: int) -> float:
        """Of reading a prompt of so many ids and a completion behind it, forward; what is no code is a word."""


def step_of(
    name: str,
    layout_of: Callable[[TrainablePolicy], Measured],
    assets: Path,
    path: str,
    turns: int,
    peak: float,
    changes: Sequence[str],
) -> list[Figure]:
    """Our step, its phases, memory and utilisation; of TRL that it has none.

    ``path``: a JSONL file to train on. ``peak``: operations a second that the device reaches. ``changes``: fields of
    the job.
    """
    REWARDS.setdefault(Letters.name, f"{__name__}:{Letters.__name__}")
    told = (
        *OVERRIDES,
        f"base={name}",
        "data.source=jsonl",
        f"data.path={path}",
        f"rewards.weights={{{Letters.name}: 1.0}}",
    )
    config = load_config(recipes()["wavalign"], [*told, *changes])
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(config, Path(folder) / "run", assets, quiet=True)
        policy = trainer.trainee.policy
        layout = layout_of(policy)
        plans = _kept(trainer.method, "plan")
        samples = _kept(trainer.sampler, "sample")
        seconds, memory, work, phases, drawn = [], [], [], [], []
        for number in range(WARM_UP + turns):
            metrics, took, peaked = measured(trainer._one_step)
            trainer.step += 1
            if number >= WARM_UP:
                seconds.append(took)
                memory.append(peaked)
                drawn.append(_drawn(policy, samples[-1]))
                work.append(_work(layout, plans[-1], drawn[-1]) / took)
                phases.append(metrics)
    note = f"{config.batch} prompts x {config.rollouts.group_size} replies"
    figures = [
        Figure(f"{name}/step_ratio", f"{name}: a step, TRL over ours", None, note=note, lacking=UNSUPPORTED),
        Figure(f"{name}/ours_step", f"{name}: our step", statistics.median(seconds), "s"),
    ]
    for place, unit in enumerate(("words", "codes")):
        count = statistics.median(each[place] for each in drawn)
        figures.append(Figure(f"{name}/sampled_{unit}", f"{name}: {unit} that it samples", count))
    for phase in PHASES:
        took = statistics.median(each.get(f"perf/{phase}_s", 0.0) for each in phases)
        figures.append(Figure(f"{name}/ours_{phase}", f"{name}: of ours: {phase}", took, "s"))
    if all(each > 0 for each in memory):
        held = statistics.median(memory) / 1e6
        label = f"{name}: our step, above what was held before"
        figures.append(Figure(f"{name}/ours_memory", label, held, "MB"))
    share = statistics.median(work) / peak
    figures.append(Figure(f"{name}/step_mfu", f"{name}: utilisation in our step", share, "%"))
    return figures


def _kept(owner: Any, name: str) -> list[Any]:
    """What a method of ``owner`` returns from now on."""
    results: list[Any] = []
    act = getattr(owner, name)

    def keeping(*given: Any) -> Any:
        results.append(act(*given))
        return results[-1]

    setattr(owner, name, keeping)
    return results


def _work(layout: Measured, plan: Plan, drawn: tuple[int, int]) -> float:
    """Operations of a step: replies are sampled (forward), and all that is learnt from goes forward and back."""
    learnt = sum(
        2 * layout.step_operations(len(unit.prompt), *_split(completion.channels))
        for unit in plan.units
        for completion in unit.completions
    )
    return learnt + layout.step_operations(0, *drawn)


def _drawn(policy: TrainablePolicy, groups: Sequence[Any]) -> tuple[int, int]:
    """Words and codes of all replies of some groups."""
    split = [_split(channels_of(policy, rollout.tokens)) for group in groups for rollout in group.rollouts]
    return sum(words for words, _ in split), sum(codes for _, codes in split)


def _split(channels: Any) -> tuple[int, int]:
    """What is no code, and the codes."""
    codes = int((channels == SPEECH).sum())
    return len(channels) - codes, codes
