"""What the study trains and measures: a run on the reward of votes, its control, the criterion on held-out prompts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.preference_study_page import ANCHORED, BASE, TUNED
from evaluation.intervals import Estimate, bootstrap_mean

REWARD, POOL = "reward", "pool.json"
ACCEPTABLE = 3.0
"""The reward's scale is centred there."""


@dataclass(frozen=True)
class Plan:
    """One seed's study. ``noise`` and ``left_bias`` are the raters', in units of the criterion."""

    seed: int
    votes: int = 300
    raters: int = 12
    noise: float = 0.25
    left_bias: float = 0.2
    criterion: str = "right"
    steps: int = 200
    batch: int = 8
    group: int = 8
    temperature: float = 0.9
    """Of the words in battles, as in the run's rollouts: a judge should know what it will judge."""
    variance: float = 4 / 3
    """Of a group's rewards, at which the run's information gate is wide open. The reward is calibrated so that replies
    to one question lie evenly between 1 and 5, which is a variance of 4/3."""
    tries: int = 8
    """Replies to each prompt of the run's split, by which it is found whether the reward tells them apart."""
    prompts: int = 600
    """Held-out prompts."""
    samples: int = 4
    """Replies to each of them."""


def prompts(plan: Plan, work: Path, assets: Path, rewarded: list[str]) -> dict[str, int]:
    """The pool of the run: dialogues of one turn (raters voted on nothing else) on whose replies the reward differs,
    some acceptable to it and some not."""
    from wavalign.rewards.combine import RewardMix
    from wavalign.rewards.registry import RewardContext
    from wavalign.training.data import load_examples
    from wavalign.training.data_config import DataConfig
    from wavalign.training.pool import SCHEMA, measure, model_sampler, write_pool

    single = [each.id for each in load_examples(DataConfig(), assets) if len(each.prompt.turns) == 1]
    pool = work / POOL
    if pool.exists() and "passed_of_scored" in (made := json.loads(pool.read_text(encoding="utf-8"))):
        return {"kept": len(made["kept"]), "of": len(single)}
    pool.write_text(json.dumps({"schema": SCHEMA, "kept": single}) + "\n", encoding="utf-8")
    config = _config(plan, work, TUNED, rewarded).model_copy(update={"assets": assets})
    examples = load_examples(config.data, assets)
    rewards = RewardMix.of(config.rewards, RewardContext(assets))
    sampler = model_sampler(config, plan.tries, text_only=not rewards.needs_audio)
    found = [each for batch in measure(examples, sampler, rewards, ACCEPTABLE, at_once=8) for each in batch]
    kept = write_pool(pool, found, 0.1, 0.9, {"samples": plan.tries, "pass_score": ACCEPTABLE, "seed": plan.seed})
    return {"kept": len(kept), "of": len(single)}


def demonstrations(work: Path, assets: Path) -> dict[str, float]:
    """Share of right answers among the demonstrations of the pool, and of all dialogues of one turn."""
    from wavalign.training.data import load_examples
    from wavalign.training.data_config import DataConfig

    pool = json.loads((work / POOL).read_text(encoding="utf-8"))
    right = {
        each.id: _right(each.target_text or "", each)
        for each in load_examples(DataConfig(), assets)
        if each.id in pool["passed_of_scored"]
    }
    return {
        "kept": sum(right[name] for name in pool["kept"]) / len(pool["kept"]),
        "of": sum(right.values()) / len(right),
    }


def _config(plan: Plan, work: Path, name: str, overrides: list[str]) -> Any:
    from wavalign.training.config_files import load_config, recipes

    changes = [
        f"name={name}",
        f"base={BASE}",
        f"seed={plan.seed}",
        f"data.seed={plan.seed}",
        f"data.pool={work / POOL}",
        f"steps={plan.steps}",
        f"batch={plan.batch}",
        f"rollouts.group_size={plan.group}",
        f"rollouts.temperature={plan.temperature}",
        "evaluation.every=0",
        f"checkpoints.every={max(1, plan.steps // 2)}",
    ]
    return load_config(recipes()["wavalign"], [*changes, *overrides])


def train(plan: Plan, work: Path, assets: Path, name: str, overrides: list[str]) -> None:
    from wavalign.training.config_files import save_config
    from wavalign.training.journal import ADAPTER, CONFIG
    from wavalign.training.loop import Trainer
    from wavalign.training.run_lock import alone

    run, config = work / name, _config(plan, work, name, overrides)
    run.mkdir(exist_ok=True)
    with alone(run, 0.0):
        save_config(config, run / CONFIG)
        Trainer(config, run, assets, quiet=True).run()
    place = work / "home" / "checkpoints" / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run / ADAPTER, place)


def learned(run: Path) -> dict[str, Any]:
    """What the run saw: its reward in the first and the last tenth of its steps, lambda on average."""
    from wavalign.training.journal import read_metrics

    lines = [line for line in read_metrics(run) if "mix/lambda" in line]
    tenth = max(1, len(lines) // 10)
    means = [sum(line.get("reward", 0.0) for line in part) / tenth for part in (lines[:tenth], lines[-tenth:])]
    return {"reward": means, "lambda": sum(line["mix/lambda"] for line in lines) / len(lines)}


def measured(plan: Plan, work: Path, assets: Path, temperature: float | None) -> dict[str, Any]:
    """The hidden criterion on held-out prompts, and the gains, paired by prompt. ``temperature``: of the words; None
    samples as the base recommends."""
    from wavalign.models.registry import Registry
    from wavalign.training.data import load_examples
    from wavalign.training.data_config import DataConfig

    model = Registry(assets, work / "home").load([BASE, TUNED, ANCHORED])
    examples = list(load_examples(DataConfig(split="held_out", limit=plan.prompts), assets))
    sampling = replace(model.default_sampling, seed=plan.seed)
    if temperature is not None:
        sampling = replace(sampling, temperature=temperature, top_p=1.0)
    at_once = max(1, 64 // plan.samples)
    means: dict[str, list[float]] = {name: [] for name in model.names}
    of_words = plan.criterion == "right"
    for start in range(0, len(examples), at_once):
        batch = examples[start : start + at_once]
        prompts = [model.encode_prompt(each.prompt) for each in batch]
        for name, values in means.items():
            groups = model.sample_groups(
                prompts, plan.samples, sampling, checkpoint=name, first=start, text_only=of_words
            )
            for example, group in zip(batch, groups, strict=True):
                scores = [score(plan.criterion, model, example, each.tokens) for each in group]
                values.append(sum(scores) / len(scores))
    found: dict[str, Any] = {
        "by_prompt": means,
        **{name: _json(bootstrap_mean(values)) for name, values in means.items()},
    }
    for name, other in ((TUNED, BASE), (ANCHORED, BASE), (TUNED, ANCHORED)):
        gain = [a - b for a, b in zip(means[name], means[other], strict=True)]
        found[f"{name} - {other}"] = _json(bootstrap_mean(gain))
    return found


def score(criterion: str, model: Any, example: Any, tokens: Sequence[int]) -> float:
    """One reply's: 1 or 0 where the criterion is the right answer, else the criterion itself."""
    from app.simulate_votes import CRITERIA, Judged
    from wavalign.metrics.measures import measure

    text = model.text_of(tokens)
    if criterion == "right":
        return float(_right(text, example))
    waveform = model.decode_speech(tokens)
    measures = {name: value for name, value in asdict(measure(waveform, text)).items() if value is not None}
    asked = example.prompt.turns[-1].text or ""
    return CRITERIA[criterion](Judged(asked, text, {**measures, "seconds": waveform.seconds}))


def _right(text: str, example: Any) -> bool:
    from wavalign.closedtalk.grading import is_correct
    from wavalign.closedtalk.world import item_of

    return is_correct(text, item_of(example.facts["item"]))


def _json(estimate: Estimate | None) -> dict[str, float]:
    assert estimate is not None  # there are held-out prompts
    return asdict(estimate)
