"""The loop on a tiny model: every recipe runs, routes agree, runs go on exactly."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from tests.training.tiny_run import small
from wavalign.models.registry import Registry
from wavalign.training import checkpoints
from wavalign.training.batch import Unit
from wavalign.training.config import ConfigError, TrainConfig
from wavalign.training.config_files import recipes
from wavalign.training.journal import read_lines, read_metrics
from wavalign.training.learning import TrainingError
from wavalign.training.loop import Trainer
from wavalign.training.mirrors import mirrors_of
from wavalign.training.plan import Plan
from wavalign.training.same_run import data_state, refuse_another, refuse_other_data

TIMES = ("time", "attempt", "step_time", "perf/", "memory/")


def train(config: TrainConfig, folder: Path, assets: Path) -> Trainer:
    trainer = Trainer(config, folder, assets, quiet=True)
    trainer.run()
    return trainer


def learned(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.trainee.parameters])


def measured(folder: Path) -> list[dict[str, Any]]:
    """The metrics that must not depend on the clock."""
    return [{k: v for k, v in line.items() if not k.startswith(TIMES)} for line in read_metrics(folder)]


@pytest.mark.parametrize("name", list(recipes()))
def test_a_recipe_runs(name: str, assets: Path, tmp_path: Path) -> None:
    config = small(name)
    trainer = train(config, tmp_path, assets)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2]
    assert all(math.isfinite(line["loss"]) and "non_finite" not in line for line in lines)
    before = Trainer(config, tmp_path / "fresh", assets, quiet=True)
    assert not torch.equal(learned(trainer), learned(before))
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "completed"
    # The recipe says what is sampled, and so do the metrics.
    assert ("reward" in lines[0]) == (name != "sft")
    assert ("loss/sft_speech" in lines[0]) == (name in ("sft", "hybrid-fixed", "wavalign", "alpo-anchored"))


SAMPLED = {"method": {"kind": "hybrid", "mix": {"kind": "fixed", "rl": 0.5}}}


def changed(**blocks: Any) -> TrainConfig:
    return small(**SAMPLED, **blocks)


# Equal routes to one update


@pytest.fixture(scope="module")
def one_pass(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("one-pass")
    trainer = train(changed(batch=4, micro_batch=4, packing="on"), folder, assets)
    return learned(trainer), measured(folder)


@pytest.mark.parametrize(
    "route",
    [
        {"micro_batch": 1, "packing": "on"},
        {"micro_batch": 3, "packing": "on"},
        {"micro_batch": 4, "packing": "off"},
        {"micro_batch": 1, "packing": "off"},
        {"micro_batch": 2, "packing": "on", "gradient_checkpointing": True},
        {"micro_batch": 4, "rollouts": {"rows_at_once": 3}},
    ],
    ids=["accumulated", "uneven", "one row each", "one prompt, one row each", "checkpointed", "sampled in parts"],
)
def test_the_update_does_not_depend_on_how_the_batch_is_cut(route, one_pass, assets, tmp_path) -> None:
    trainer = train(changed(batch=4, **route), tmp_path, assets)
    weights, lines = one_pass
    for line, other in zip(lines, measured(tmp_path), strict=True):
        assert line.keys() == other.keys()
        for name, value in line.items():
            if name != "num_tokens":
                assert other[name] == pytest.approx(value, rel=2e-4, abs=2e-5), name
    assert torch.allclose(learned(trainer), weights, atol=2e-5)


def test_replies_and_demonstrations_may_be_read_in_forwards_of_their_own(one_pass, assets, tmp_path) -> None:
    trainer = Trainer(changed(batch=4, micro_batch=1, packing="on"), tmp_path, assets, quiet=True)
    plan = trainer.method.plan

    def parted(*arguments: Any) -> Plan:
        whole = plan(*arguments)
        parts = [
            Unit(unit.prompt, [c for c in unit.completions if c.target is target])
            for unit in whole.units
            for target in (False, True)
        ]
        return replace(whole, units=parts)

    trainer.method.plan = parted
    trainer.run()
    weights, lines = one_pass
    for line, other in zip(lines, measured(tmp_path), strict=True):
        for name in ("loss", "loss/rl", "loss/sft_text", "loss/sft_speech", "grad_norm"):
            assert other[name] == pytest.approx(line[name], rel=2e-4, abs=2e-5), name
    assert torch.allclose(learned(trainer), weights, atol=2e-5)


# Going on exactly


@pytest.mark.parametrize(
    ("recipe", "changes"),
    [
        ("wavalign", {}),
        ("wavalign", {"rollouts": {"updates": 2}, "method": {"preference": {"kl_text": 0.1}}}),
        ("alpo-anchored", {}),
        ("sft", {"tuning": {"kind": "full"}}),
        ("wavalign", {"tuning": {"kind": "lora", "rank": 4, "dropout": 0.3}}),
    ],
    ids=["wavalign", "two updates and a divergence", "a lambda for each channel", "full fine-tuning", "dropout"],
)
def test_a_resumed_run_is_the_run_that_was_never_stopped(recipe, changes, assets, tmp_path) -> None:
    config = small(recipe, steps=4, evaluation={"every": 3, "prompts": 2, "samples": 2, "spoken": 1}, **changes)
    straight = train(config, tmp_path / "straight", assets)
    folder = tmp_path / "stopped"
    first = Trainer(config, folder, assets, quiet=True)
    step, taken = first._one_step, []
    first._one_step = lambda: (taken.append(1), len(taken) == 3 and first.stop.ask("enough"), step())[2]
    assert first.run() == "stopped"
    assert json.loads((folder / "result.json").read_text())["status"] == "stopped"
    second = train(config, folder, assets)
    assert [e["step"] for e in read_lines(folder / "events.jsonl") if e["event"] == "resumed"] == [3]
    assert measured(folder) == measured(tmp_path / "straight")
    assert torch.equal(learned(second), learned(straight))


def test_a_run_goes_on_as_it_was_begun_or_not_at_all(assets, tmp_path) -> None:
    """Where and how long it trains may change; what it learns may not, and its checkpoint stays as it is."""
    begun = train(small("wavalign"), tmp_path, assets)
    fewer = tmp_path / "pool.json"
    fewer.write_text(json.dumps({"kept": list(begun.data.ids[1:])}))
    for blocks, said in (
        ({"tuning": {"kind": "lora", "rank": 2}}, r"begun with other settings: tuning\.rank was 4 and is 2"),
        ({"tuning": {"kind": "full"}}, r"tuning\.kind was lora and is full"),
        ({"rewards": {"weights": {"answer": 1.0, "format": 1.0}}}, r"rewards\.weights\.format was none and is 1"),
        ({"rewards": {"flaky": {"period": 5}}}, r"rewards\.flaky\.period was none and is 5"),
        ({"data": {"pool": str(fewer)}}, r"was begun on 8 examples, and its data have 7 now"),
    ):
        with pytest.raises(ConfigError, match=said):
            Trainer(small("wavalign", steps=3, **blocks), tmp_path, assets, quiet=True).run()
    saved = begun.folder / "checkpoints" / "step-2" / "state.json"
    assert data_state(begun.data.ids).items() <= json.loads(saved.read_text()).items()
    with pytest.raises(ConfigError, match="was begun on examples with other ids, or in another order"):
        refuse_other_data(json.loads(saved.read_text()), begun.data.ids[::-1])
    more = Trainer(small("wavalign", steps=3, micro_batch=1), tmp_path, assets, quiet=True)
    assert more.run() == "completed"
    assert more.step == 3


@pytest.mark.parametrize(
    ("unknown", "said"),
    [({"config", "ids"}, "settings and examples"), ({"ids"}, "examples"), ({"config", "ids", "examples"}, "settings")],
)
def test_a_checkpoint_of_an_older_version_is_gone_on_with_and_what_is_not_compared_is_said(
    unknown, said, assets, tmp_path, capsys
) -> None:
    train(small("sft"), tmp_path, assets)
    saved = checkpoints.latest(tmp_path / "checkpoints")
    older = {name: value for name, value in saved.state.items() if name not in {"step", "idle_in_a_row", *unknown}}
    checkpoints.save(saved.folder.parent, saved.step, older, lambda new: _copy_files(saved.folder, new))
    assert Trainer(small("sft", steps=3), tmp_path, assets, quiet=True).run() == "completed"
    (resumed,) = [each for each in read_lines(tmp_path / "events.jsonl") if each["event"] == "resumed"]
    assert said.split(" and ")[0] in resumed["not_compared"]
    assert f"so {said}" in "".join(capsys.readouterr())


def test_a_config_with_fields_that_are_not_known_is_not_compared() -> None:
    assert refuse_another({"a_field_of_old": 1}, small("sft")) is False
    assert refuse_another(small("sft").model_dump(mode="json"), small("sft")) is True


def test_ids_of_any_kind_are_told_apart() -> None:
    assert data_state(["a\nb", "c"]) != data_state(["a", "b\nc"])
    assert data_state(["\ud83d"])["examples"] == 1


def test_a_run_that_is_done_stays_done(assets, tmp_path) -> None:
    config = small("sft")
    weights = learned(train(config, tmp_path, assets))
    assert torch.equal(learned(train(config, tmp_path, assets)), weights)
    assert len(read_lines(tmp_path / "metrics.jsonl")) == 2


def test_a_request_in_the_folder_stops_the_run_once(assets, tmp_path) -> None:
    config = small("sft")
    trainer = Trainer(config, tmp_path, assets, quiet=True)
    (tmp_path / "control.json").write_text('{"stop": true}')
    assert trainer.run() == "stopped"
    assert trainer.step == 0
    assert Trainer(config, tmp_path, assets, quiet=True).run() == "completed"


# What is left behind


def test_the_adapter_of_a_run_is_a_checkpoint_that_answers(assets, tmp_path) -> None:
    trainer = train(small("wavalign", optimiser={"lr": 0.05, "warmup": 0}), tmp_path / "runs" / "mine", assets)
    registry = Registry(assets, tmp_path)
    assert "mine" in registry.names()
    model = registry.load(["mine"])
    assert registry.checkpoint("mine").provenance["name"] == "wavalign"
    example = trainer.data[0]
    prompt, target = (
        model.encode_prompt(example.prompt),
        model.encode_target(example.target_text, example.target_speech),
    )
    ours = trainer.trainee.policy.score([prompt], [target], checkpoint="policy").logprobs
    assert torch.allclose(model.score([prompt], [target]).logprobs, ours, atol=1e-5)
    base = trainer.trainee.policy.score([prompt], [target], checkpoint="reference").logprobs
    assert not torch.allclose(base, ours, atol=1e-3)


def test_after_full_fine_tuning_the_result_is_a_base(assets, tmp_path) -> None:
    trainer = train(small("sft", tuning={"kind": "full"}), tmp_path / "runs" / "mine", assets)
    model = Registry(assets, tmp_path).load(["mine"])
    example = trainer.data[0]
    prompt, target = (
        model.encode_prompt(example.prompt),
        model.encode_target(example.target_text, example.target_speech),
    )
    ours = trainer.trainee.policy.score([prompt], [target], checkpoint="policy").logprobs
    assert torch.allclose(model.score([prompt], [target]).logprobs, ours, atol=1e-5)


def test_a_checkpoint_of_an_adapter_is_small(assets, tmp_path) -> None:
    trainer = train(small("sft"), tmp_path, assets)
    size = sum(path.stat().st_size for path in (tmp_path / "checkpoints" / "step-2").rglob("*") if path.is_file())
    assert size < 4 * 4 * learned(trainer).numel() + 60_000


def test_an_adapter_can_be_trained_on_and_is_then_the_reference(assets, tmp_path) -> None:
    config = small("wavalign", base="tiny-tuned", steps=1, method={"preference": {"kl_text": 0.1}})
    trainer = train(config, tmp_path, assets)
    # At the first step the policy is the adapter it started from: the divergence from it is 0.
    assert read_metrics(tmp_path)[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert trainer.trainee.base.name == "tiny-base"


def test_evaluations_are_the_same_each_time_and_leave_samples(assets, tmp_path) -> None:
    evaluation = {"every": 1, "prompts": 3, "samples": 2, "spoken": 2, "kept": 2}
    still = small("sft", evaluation=evaluation, optimiser={"lr": 1e-30})
    train(still, tmp_path, assets)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [0, 1, 2]
    scores = [{k: v for k, v in line.items() if k.startswith(("eval/", "guard/"))} for line in lines]
    assert scores[0] == scores[1] == scores[2]
    expected = {"eval/semantic/score", "eval/acoustic/nll_speech", "eval/acoustic/nll_text", "guard/nll_speech"}
    expected |= {"eval/acoustic/energy_sd", "eval/acoustic/pause_ratio"}
    expected |= {f"eval/{name}/{channel}" for name in ("kl", "entropy") for channel in ("text", "speech")}
    assert expected <= scores[0].keys()
    # Nothing was learned: the policy is its reference, and as undecided as a random network is.
    for channel in ("text", "speech"):
        assert scores[0][f"eval/kl/{channel}"] == pytest.approx(0, abs=1e-6)
        assert scores[0][f"eval/entropy/{channel}"] > 0
    assert {path.name for path in (tmp_path / "samples" / "step-2").iterdir()} == {"00.wav", "01.wav", "samples.jsonl"}


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma", "mistral"])
def test_other_architectures_are_trained_alike(architecture, assets, tmp_path) -> None:
    """They sample through transformers itself; each packs its rows or not, as it is able to."""
    shutil.copytree(assets, tmp_path / "assets", ignore=shutil.ignore_patterns("tiny-base", "tiny-tuned"))
    tiny.make_tiny_checkpoint(tmp_path / "assets" / "tiny-base", architecture=architecture)
    routes = []
    for packing in ("auto", "off"):
        config = small("wavalign", packing=packing, method={"preference": {"kl_text": 0.1}})
        train(config, tmp_path / packing, tmp_path / "assets")
        routes.append(read_metrics(tmp_path / packing)[-1]["loss"])
    assert routes[0] == pytest.approx(routes[1], rel=1e-3)


def test_metrics_are_mirrored_into_tensorboard(assets, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    train(small("sft", tensorboard=True), tmp_path, assets)
    assert any((tmp_path / "tensorboard").glob("events.out.*"))


def test_a_run_is_one_run_of_trackio_and_another_folder_is_another(assets, tmp_path, monkeypatch) -> None:
    calls: list[tuple[str, Any]] = []
    trackio = ModuleType("trackio")
    trackio.init = lambda **settings: calls.append(
        ("init", (settings["project"], settings["name"], settings["resume"]))
    )
    trackio.log = lambda metrics, step: calls.append(("log", (step, metrics["loss"])))
    trackio.finish = lambda: calls.append(("finish", None))
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    first, second = tmp_path / "sft" / "run", tmp_path / "others" / "run"
    train(small("sft", trackio="voices"), first, assets)
    (_, (project, name, resume)), *told = calls
    assert (project, resume) == ("voices", "allow")
    assert name.startswith("sft-run-")
    losses = [line["loss"] for line in measured(first)]
    assert told == [*(("log", (step, loss)) for step, loss in enumerate(losses, start=1)), ("finish", None)]
    second.mkdir(parents=True)
    for folder in (first, second):
        mirrors_of(small("sft", trackio="voices"), folder)
    assert calls[-2][1][1] == name
    assert calls[-1][1][1] != name


# What goes wrong


def test_a_step_that_is_not_a_number_is_skipped_and_too_many_stop_the_run(assets, tmp_path) -> None:
    config = small("sft", steps=6, limits={"non_finite_steps": 2})
    trainer = Trainer(config, tmp_path, assets, quiet=True)
    before, loss = learned(trainer), trainer.method.loss

    def broken(flat, scores, plan):
        result = loss(flat, scores, plan)
        return type(result)(result.value * float("nan"), result.sums)

    trainer.method.loss = broken
    with pytest.raises(RuntimeError, match="3 steps in a row"):
        trainer.run()
    assert torch.equal(learned(trainer), before)
    assert [e["event"] for e in read_lines(tmp_path / "events.jsonl")].count("skipped") == 3


def test_a_judge_with_bad_phases_is_true_in_the_good_ones(assets, tmp_path) -> None:
    judged = {"weights": {"letters": 1.0}, "flaky": {"period": 1}}
    train(small("grpo-text"), tmp_path / "steady", assets)
    train(small("grpo-text", rewards=judged), tmp_path / "flaky", assets)
    steady, flaky = (measured(tmp_path / name) for name in ("steady", "flaky"))
    assert steady[0] == flaky[0]  # the same replies, the same scores, the same update
    assert steady[1]["completions/mean_length"] == flaky[1]["completions/mean_length"]
    assert steady[1]["reward"] != flaky[1]["reward"]


def test_failed_rewards_are_counted_and_learned_around(assets, tmp_path) -> None:
    config = small("wavalign", rewards={"weights": {"letters": 0.0, "unreliable": 1.0}})
    train(config, tmp_path, assets)
    line = read_metrics(tmp_path)[0]
    assert line["rewards/unreliable/failed_frac"] == pytest.approx(1 / 3)
    assert line["rewards/letters/failed_frac"] == 0
    assert np.isfinite(line["reward"])
    assert any(event["event"] == "failed rewards" for event in read_lines(tmp_path / "events.jsonl"))


@pytest.mark.parametrize("reward", ["indifferent", "broken"])
def test_a_batch_that_nothing_can_be_learned_from_is_no_error(reward, assets, tmp_path) -> None:
    """DAPO leaves groups without differences out, and a failed reward moves nobody: no token is wanted."""
    config = small(
        "grpo-text",
        rewards={"weights": {"letters": 0.0, reward: 1.0}, "max_failed_share": 1.0},
        method={"preference": {"objective": "dapo"}},
    )
    trainer = Trainer(config, tmp_path, assets, quiet=True)
    before = learned(trainer)
    assert trainer.run() == "completed"
    assert torch.equal(learned(trainer), before)
    assert [line["loss"] for line in measured(tmp_path)] == [0.0, 0.0]


def test_a_run_without_anything_to_learn_from_says_so_and_ends(assets, tmp_path) -> None:
    config = small("dpo-text", steps=9, limits={"idle_steps": 2}, method={"pairs": {"least_gap": 4.0}})
    with pytest.raises(TrainingError, match=r"Nothing was learnt in 3 steps in a row: .*no preference pair"):
        train(config, tmp_path, assets)
    idle = [event["step"] for event in read_lines(tmp_path / "events.jsonl") if event["event"] == "idle"]
    assert idle == [1, 2, 3]


def test_replies_of_words_alone_say_so(assets, tmp_path) -> None:
    train(small("grpo-text", steps=1), tmp_path / "text", assets)
    train(small("grpo-all", steps=1), tmp_path / "all", assets)
    for folder, short in (("text", True), ("all", False)):
        (event,) = [e for e in read_lines(tmp_path / folder / "events.jsonl") if e["event"] == "prepared"]
        assert event["replies_end_with_their_text"] is short


def _copy_files(old: Path, new: Path) -> None:
    for path in old.iterdir():
        if path.name not in (checkpoints.MANIFEST, checkpoints.STATE):
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, new / path.name)
