"""The training step against TRL's, on a model of a few kilobytes: what is timed is one step of each side."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("trl", reason="TRL is in requirements-dev.txt")

from evaluation.speed_timing import SpeedOptions
from evaluation.speed_training import PHASES, training
from tests.training.tiny_run import make_assets

CHANGES = ["batch=2", "micro_batch=2", "rollouts.group_size=2", "rollouts.max_tokens=24", "precision=float32"]


def test_a_step_of_each_side_is_timed_in_turns_and_its_phases_add_up(tmp_path: Path) -> None:
    assets = make_assets(tmp_path / "assets")
    section = training(SpeedOptions(assets, tmp_path / "home", "tiny-base", None, turns=1, device="cpu"), CHANGES)
    values = {figure.id: figure.value for figure in section.figures}
    assert values["step_ratio"] == pytest.approx(values["trl_step"] / values["ours_step"])
    phases = sum(values[f"ours_{name}"] for name in PHASES)
    assert 0 < phases <= values["ours_step"]
    assert values["sampled_tokens"] % 4 == 0  # 2 prompts x 2 replies of one length
    assert values["read_tokens"] > values["sampled_tokens"]
