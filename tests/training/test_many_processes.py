"""One run in two processes is the run in one: each with all weights (DDP), or with half of them (FSDP2).

All runs in two processes are made by one launch, through the file that the documentation names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests import tiny
from tests.training.test_loop import measured, train
from tests.training.tiny_run import small
from wavalign.training.config import ConfigError, TrainConfig
from wavalign.training.config_files import save_config
from wavalign.training.journal import read_lines
from wavalign.training.sharding import check_layout

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SIZE: dict[str, Any] = {"batch": 4, "micro_batch": 1, "steps": 2, "checkpoints": {"every": 1, "keep": 3}}
EVALUATED = {"evaluation": {"every": 2, "prompts": 3, "samples": 2, "spoken": 3}}
FULL = {"tuning": {"kind": "full"}, "method": {"preference": {"kl_text": 0.1}}}


def configs(neox: Path) -> dict[str, TrainConfig]:
    return {
        "ddp": small("alpo-anchored", parallel="ddp", **SIZE, **EVALUATED),
        "lora": small("alpo-anchored", **SIZE, **EVALUATED),
        "full": small("wavalign", **SIZE, **FULL),
        "resumed": small("wavalign", **SIZE, **FULL),
        "interrupted": small("sft", parallel="ddp", **(SIZE | {"steps": 3, "checkpoints": {"every": 3}})),
        "neox": small("wavalign", parallel="fsdp2", **(SIZE | {"steps": 1}), assets=str(neox)),
    }


@pytest.fixture(scope="module")
def runs(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the runs in one process and in two."""
    folder = tmp_path_factory.mktemp("many")
    one, two, neox = folder / "one", folder / "two", folder / "neox-assets"
    two.mkdir()
    shutil.copytree(assets, neox, ignore=shutil.ignore_patterns("tiny-base", "tiny-tuned"))
    tiny.make_tiny_checkpoint(neox / "tiny-base", architecture="gpt_neox")
    for name, config in configs(neox).items():
        save_config(config, two / f"{name}.yaml")
        if name not in ("resumed", "interrupted"):
            train(config, one / name, assets)
    shutil.copytree(one / "full", one / "resumed")
    shutil.copytree(one / "full" / "checkpoints" / "step-1", two / "resumed" / "checkpoints" / "step-1")
    words = [sys.executable, "-m", "accelerate.commands.launch"]
    words += ["--config_file", str(ROOT / "wavalign" / "launch" / "fsdp2.yaml"), "--num_processes", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*words, "-m", "tests.training.together", str(assets), str(two)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, [line for line in done.stderr.splitlines() if "Error" in line or "File" in line][-12:]
    return one, two


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_lines(run / "events.jsonl") if event["event"] == kind]


@pytest.mark.parametrize("name", ["ddp", "lora", "full", "neox"])
def test_two_processes_measure_what_one_does(name: str, runs: tuple[Path, Path]) -> None:
    one, two = (measured(place / name) for place in runs)
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for line, other in zip(one, two, strict=True):
        assert line.keys() == other.keys()
        for key, value in line.items():
            assert other[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
            if key.startswith("mix/lambda"):
                assert other[key] == pytest.approx(value, abs=1e-9)
    assert events(runs[1] / name, "started")[0]["processes"] == 2
    (alone,), (shared,) = (events(place / name, "prepared") for place in runs)
    assert shared["trained_parameters"] == alone["trained_parameters"]
    half = shared["parameters_held"] / alone["parameters_held"]
    assert half == 1 if name == "ddp" else 0.5 <= half < 0.55


@pytest.mark.parametrize("name", ["ddp", "lora", "full", "resumed"])
def test_two_processes_leave_the_files_that_one_does(name: str, runs: tuple[Path, Path]) -> None:
    one, two = (place / name for place in runs)
    for part in ("checkpoints/step-2", "adapter"):
        assert files(one / part) == files(two / part)
        for path in (one / part).rglob("*.safetensors"):
            mine, theirs = load_file(path), load_file(two / path.relative_to(one))
            assert mine.keys() == theirs.keys()
            for key, value in mine.items():
                assert torch.allclose(theirs[key], value, atol=2e-6), key
    mine, theirs = (torch.load(run / "checkpoints/step-2/optimiser.pt", weights_only=True) for run in (one, two))
    assert mine["state"].keys() == theirs["state"].keys()
    for place, state in mine["state"].items():
        for key, value in state.items():
            assert torch.allclose(theirs["state"][place][key], value, atol=1e-5)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_begun_by_one_process_goes_on_in_two(runs: tuple[Path, Path]) -> None:
    """Its files are compared with the undisturbed run's above."""
    (resumed,) = events(runs[1] / "resumed", "resumed")
    assert (resumed["step"], resumed["processes"]) == (1, 2)


@pytest.mark.parametrize("name", ["lora", "full"])
def test_a_run_begun_by_two_processes_goes_on_in_one(name: str, runs, assets: Path, tmp_path: Path) -> None:
    one, two = (place / name for place in runs)
    shutil.copytree(two / "checkpoints" / "step-1", tmp_path / "checkpoints" / "step-1")
    train(configs(tmp_path)[name], tmp_path, assets)
    straight, alone = measured(one)[-1], measured(tmp_path)[-1]
    assert alone["loss"] == pytest.approx(straight["loss"], rel=1e-3, abs=1e-4)
    assert alone["mix/lambda"] == pytest.approx(straight["mix/lambda"], abs=1e-9)


def test_what_one_process_is_asked_all_of_them_do(runs: tuple[Path, Path]) -> None:
    result = json.loads((runs[1] / "interrupted" / "result.json").read_text())
    assert (result["status"], result["reason"], result["step"]) == ("stopped", "interrupted", 1)
    assert [event["step"] for event in events(runs[1] / "interrupted", "saved")] == [1]


def test_a_launch_with_fsdp_is_not_taken_for_ddp(assets: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="launched with FSDP"):
        train(small("sft", parallel="ddp"), tmp_path, assets)


@pytest.mark.parametrize(("layout", "hears"), [("thinker-talker", False), ("interleaved", True)])
def test_bases_that_cannot_share_out_their_weights_are_refused(layout: str, hears: bool) -> None:
    with pytest.raises(ConfigError, match=r"omni has parts that are run by themselves\. Use parallel=ddp"):
        check_layout("omni", layout, hears)


def test_the_launch_files_name_their_own_command() -> None:
    for path in (ROOT / "wavalign" / "launch").glob("*.yaml"):
        assert f"--config_file wavalign/launch/{path.name}" in path.read_text()
        assert yaml.safe_load(path.read_text())["num_processes"] == 8
