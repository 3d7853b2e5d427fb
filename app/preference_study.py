"""From votes to a better model, end to end: ``python -m app.preference_study --seeds 0 1 2 --write``. Slow.

Simulated raters, labelled so wherever they show, have a criterion that nothing else is told of: they want the right
answer, unless ``--criterion`` says otherwise. They vote on battles between two samples of the base, sampled as in
training, through the arena's own store and rules; the votes are exported; a reward model is trained on the export; a
WavAlign run is trained with that reward alone. Then the criterion itself is measured on held-out prompts, which nobody
voted on: of the base, of the run, and of a run that is the same but for the reward, the demonstrations alone.

Every stage is kept in ``--work``, so that the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from app import preference_study_run as run
from app.preference_study_page import ANCHORED, BASE, TUNED, page
from app.preference_study_run import REWARD, Plan
from app.settings import Settings
from wavalign.arguments import whole

TWIN = "study-twin"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "preference-study.md"
_AT_ONCE = 32
_TRIES = 8
"""Replies by which a question is found to be open."""


class StudyError(RuntimeError):
    """The study cannot begin; the message is one sentence."""


def study(plan: Plan, work: Path, assets: Path) -> dict[str, Any]:
    """All stages of one seed, those that are done left out; its figures as plain JSON.

    Raises:
        StudyError: when the folder holds a study of another plan.
    """
    done, told = work / "figures.json", work / "plan.json"
    if told.exists() and json.loads(told.read_text(encoding="utf-8")) != asdict(plan):
        raise StudyError(f"{work} holds a study of another plan; choose another --work, or delete it.")
    work.mkdir(parents=True, exist_ok=True)
    told.write_text(json.dumps(asdict(plan)) + "\n", encoding="utf-8")
    if done.exists():
        return json.loads(done.read_text(encoding="utf-8"))
    clock = _Seconds(work / "seconds.json", plan.seed)
    settings = Settings(home=work / "home", assets=assets, preload=False)
    if not (work / "export").exists():
        clock.of("votes", _vote, plan, settings, work / "export")
    model = clock.of("reward model", _reward, work, assets)
    figures: dict[str, Any] = {
        "plan": asdict(plan),
        "votes": model.facts["votes"],
        "reads": model.facts["blocks"],
        "held_out": model.facts["held_out"],
        "above_chance": model.above_chance,
    }
    if model.above_chance:
        rewarded = [
            "rewards.weights={preference: 1.0}",
            f"rewards.preference.path={work / REWARD}",
            f"method.mix.variance={plan.variance}",
        ]
        figures["prompts"] = clock.of("prompts of the run", run.prompts, plan, work, assets, rewarded)
        clock.of("run", run.train, plan, work, assets, TUNED, rewarded)
        alone = ["method.mix={kind: fixed, rl: 0.0}"]
        clock.of("run of demonstrations", run.train, plan, work, assets, ANCHORED, alone)
        figures["metrics"] = run.learned(work / TUNED)
        figures["criterion"] = clock.of("held-out prompts", run.measured, plan, work, assets, plan.temperature)
        figures["as_served"] = clock.of("held-out prompts, as served", run.measured, plan, work, assets, None)
    figures["cpu_seconds"] = clock.seconds
    done.write_text(json.dumps(figures) + "\n", encoding="utf-8")
    return figures


class _Seconds:
    """Processor time of the stages, kept in a file: a stage that was stopped adds to its time when it goes on."""

    def __init__(self, path: Path, seed: int) -> None:
        self._path = path
        self._seed = seed
        self.seconds: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def of(self, what: str, act: Callable[..., Any], *arguments: Any) -> Any:
        print(f"seed {self._seed}: {what}", file=sys.stderr, flush=True)
        began = time.process_time()
        try:
            return act(*arguments)
        finally:
            self.seconds[what] = round(self.seconds.get(what, 0.0) + time.process_time() - began, 1)
            self._path.write_text(json.dumps(self.seconds) + "\n", encoding="utf-8")


def _vote(plan: Plan, settings: Settings, folder: Path) -> None:
    """The votes, by way of the arena, into an export."""
    import numpy as np

    from app.checks import CheckRules
    from app.export import export
    from app.export_rows import Selection
    from app.rates import Rates
    from app.services import Services
    from app.simulate_votes import CRITERIA, ForwardClock, simulate
    from app.speakers import LoadedSpeakers
    from app.staging import Staging
    from app.store import open_store
    from app.voting import Voting

    shutil.rmtree(settings.home, ignore_errors=True)  # votes of an attempt that was stopped
    store = open_store(settings.home, None)
    try:
        _make_twin(settings)
        services = Services(settings)
        speakers = _TwoSpeakers(LoadedSpeakers(services), plan)
        clock = ForwardClock(time.time())
        staging = Staging(
            store,
            speakers,
            rates=Rates(10**9, 10**9, 10**9),
            checks=CheckRules(gold_share=0.0, repeat_share=0.0),
            clock=clock,
            dice=random.Random(plan.seed),
            sounds=np.random.default_rng(plan.seed),
        )
        simulate(
            Voting(staging),
            clock,
            CRITERIA[plan.criterion],
            plan.votes,
            plan.raters,
            plan.seed,
            plan.noise,
            plan.left_bias,
            prompts=_open_questions(plan, services.registry, settings.assets),
        )
        export(store, folder, Selection(source="simulated"), ("battles",), name="simulated votes")
    finally:
        store.close()


class _TwoSpeakers:
    """The arena's own speakers, of whom these two meet, with the plan's temperature of the words and its seeds."""

    def __init__(self, speakers: Any, plan: Plan) -> None:
        self._speakers = speakers
        self._temperature = plan.temperature
        self._seeds = random.Random(plan.seed)

    def pairs(self) -> list[tuple[str, str]]:
        return [(BASE, TWIN)]

    def sampling(self, name: str, seed: int) -> dict[str, Any]:
        seed = self._seeds.randrange(2**31)  # in place of one that nobody could draw again
        return {**self._speakers.sampling(name, seed), "temperature": self._temperature}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._speakers, name)


def _make_twin(settings: Settings) -> None:
    """An adapter that changes nothing: a battle is between two checkpoints, and both are to be the base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(settings.assets / BASE))
    twin = get_peft_model(model, LoraConfig(r=1, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    twin.peft_config["default"].base_model_name_or_path = BASE
    twin.save_pretrained(str(settings.home / "checkpoints" / TWIN))


def _open_questions(plan: Plan, registry: Any, assets: Path) -> list[str]:
    """As many questions as there are votes, those first that the base is least sure of: single questions of the
    post-training split that no held-out dialogue asks in the same words. Two equal replies teach nothing."""
    from wavalign.dialogue import Dialogue, Turn

    model = registry.load([BASE])
    held_out = {turn.text for row in _rows(assets, "held_out") for turn in row.turns}
    asked = sorted({row.turns[0].text for row in _rows(assets, "post_training")} - held_out)
    sampling = replace(model.default_sampling, temperature=plan.temperature, seed=plan.seed)
    differ: dict[str, float] = {}
    for start in range(0, len(asked), _AT_ONCE):
        batch = asked[start : start + _AT_ONCE]
        prompts = [model.encode_prompt(Dialogue((Turn("user", text=words),))) for words in batch]
        groups = model.sample_groups(prompts, _TRIES, sampling, first=start, text_only=True)
        for words, group in zip(batch, groups, strict=True):
            counts = Counter(model.text_of(each.tokens) for each in group)
            differ[words] = 1 - sum((count / _TRIES) ** 2 for count in counts.values())
    found = sorted((words for words in asked if differ[words] > 0), key=lambda words: -differ[words])[: plan.votes]
    random.Random(plan.seed).shuffle(found)
    return found


def _rows(assets: Path, split: str) -> Sequence[Any]:
    from wavalign.closedtalk.dataset import read_dialogues

    return read_dialogues(assets / "closedtalk-data" / f"{split}.parquet")


def _reward(work: Path, assets: Path) -> Any:
    from wavalign.rewards.preference_model import PreferenceModel
    from wavalign.rewards.train_preference import train

    if not (work / REWARD).exists():
        train(work / "export", assets, base=BASE).save(work / REWARD)
    return PreferenceModel.load(work / REWARD)


def main(arguments: Sequence[str] | None = None) -> int:
    import torch

    from app.battles import BattleError
    from app.simulate_votes import CRITERIA
    from app.store import StoreError
    from wavalign.models.protocol import CheckpointError
    from wavalign.rewards.protocol import RewardError
    from wavalign.training.pool import PoolError
    from wavalign.training.run_lock import RunBusy

    defaults = Settings.from_environment()
    parser = argparse.ArgumentParser(
        prog="python -m app.preference_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--criterion", choices=sorted(CRITERIA), default=Plan.criterion)
    parser.add_argument("--seeds", type=whole(0), nargs="+", default=[0])
    parser.add_argument("--votes", type=whole(1), default=Plan.votes)
    parser.add_argument("--steps", type=whole(1), default=Plan.steps)
    parser.add_argument("--work", type=Path, default=defaults.home / "preference-study")
    parser.add_argument("--write", action="store_true", help=f"the page {PAGE.name} in the docs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = []
    try:
        for seed in options.seeds:
            plan = Plan(seed, votes=options.votes, criterion=options.criterion, steps=options.steps)
            folder = options.work / f"{plan.criterion}-seed-{seed}-votes-{plan.votes}-steps-{plan.steps}"
            found = study(plan, folder, defaults.assets)
            if found["above_chance"]:
                found["demonstrations"] = run.demonstrations(folder, defaults.assets)
            results.append(found)
    except (StudyError, StoreError, BattleError, CheckpointError, RewardError, PoolError, RunBusy) as error:
        print(f"The study cannot go on: {error}", file=sys.stderr)
        return 1
    given = " ".join(arguments if arguments is not None else sys.argv[1:])
    text = page(results, f"python -m app.preference_study {_without_work(given)}".strip())
    print(text)
    if options.write:
        PAGE.write_text(text, encoding="utf-8")
    return 0


def _without_work(given: str) -> str:
    words = given.split()
    if "--work" in words:
        place = words.index("--work")
        del words[place : place + 2]
    return " ".join(words)


if __name__ == "__main__":
    sys.exit(main())
