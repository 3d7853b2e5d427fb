"""Runs of the real trainer that cannot go on: each ends in a state, with a reason that a person understands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from app.jobs.supervise import Attempt, Outcome, outcome, supervise
from tests.training.tiny_run import make_assets, small
from wavalign import train
from wavalign.launch.commands import train_command
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import save_config
from wavalign.training.journal import ATTEMPT_VARIABLE, read_lines

DOWN = {"url": "http://127.0.0.1:9/v1", "model": "none", "attempts": 1, "backoff_s": 0, "timeout_s": 2}


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_assets(tmp_path_factory.mktemp("failures"))


def rule_based(recipe: str, **changes: Any) -> TrainConfig:
    """A small config whose rewards are the program's own, as a process of its own knows no others."""
    config = small(recipe, **changes)
    weights = changes.get("rewards", {}).get("weights", {"rule": 1.0})
    return config.model_copy(update={"rewards": config.rewards.model_copy(update={"weights": weights})})


def ended(
    folder: Path, assets: Path, monkeypatch: pytest.MonkeyPatch, recipe: str = "wavalign", **changes: Any
) -> Outcome:
    """What a job amounts to whose trainer ran, here in this process, with these fields changed."""
    folder.mkdir(exist_ok=True)
    save_config(rule_based(recipe, **changes), folder / "config.yaml")
    monkeypatch.setenv(ATTEMPT_VARIABLE, "1")
    code = train.main([str(folder), "--assets", str(assets), "--home", str(folder), "--quiet"])
    return outcome(folder, 1, None, code)


def test_a_base_that_is_not_there(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ended(tmp_path / "run", assets, monkeypatch, base="nowhere")
    assert found.state == "failed"
    assert found.reason.startswith('There is no checkpoint "nowhere". The names are: tiny-base')


def test_a_loss_that_is_not_a_number(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wild = {"optimiser": {"lr": 1e30, "warmup": 0}, "steps": 20, "limits": {"non_finite_steps": 1}}
    found = ended(tmp_path / "run", assets, monkeypatch, "sft", **wild)
    assert found.state == "failed"
    assert "was not a number in 2 steps in a row" in found.reason


def test_a_judge_that_is_down(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = {"weights": {"judge_semantic": 1.0}, "judge": DOWN, "failure_window": 4}
    found = ended(tmp_path / "run", assets, monkeypatch, rewards=judged, steps=20)
    assert found.state == "failed"
    assert "judge_semantic" in found.reason


def test_data_that_is_not_there(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"source": "jsonl", "path": str(tmp_path / "absent.jsonl")}
    found = ended(tmp_path / "run", assets, monkeypatch, data=absent)
    assert found.state == "failed"
    assert "absent.jsonl" in found.reason


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path: Path, assets: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    save_config(rule_based("sft", steps=2), folder / "config.yaml")
    command = train_command(folder, assets, tmp_path, processes=2)
    found = supervise(Attempt(folder, 1, f"test-{os.getpid()}-two", command))
    log = (folder / "attempts" / "001" / "output.log").read_text()
    assert found.state == "completed", log[-3000:]
    assert [line["step"] for line in read_lines(folder / "metrics.jsonl")] == [1, 2]
    (started,) = [line for line in read_lines(folder / "events.jsonl") if line["event"] == "started"]
    assert started["processes"] == 2
