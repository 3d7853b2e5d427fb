"""Training in slices of time: when one ends, and that a run of slices is the run that was never interrupted."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.training import letters  # noqa: F401  (its reward is known from here on)
from tests.training.test_loop import measured, train
from tests.training.tiny_run import small
from wavalign.training import slices
from wavalign.training.config_files import save_config
from wavalign.training.run_lock import LOCK, RunBusy
from wavalign.training.slices import ORPHANED, OVER, SliceStop, train_slice


@pytest.fixture(autouse=True)
def no_attempt_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAVALIGN_ATTEMPT", "1")  # a slice names it; afterwards it is as it was


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_slice_ends_when_the_next_step_would_not_fit():
    clock = Clock()
    stop = SliceStop(seconds=60, began=100.0, margin=10, clock=clock)
    clock.now = 120.0  # loading took 20 s
    assert stop.reason is None
    clock.now = 132.0  # the first step 12 s; the next may take 1.25 x 12 = 15, and 132 + 15 < 150
    assert stop.reason is None
    clock.now = 136.0  # 136 + 15 = 151 > 150
    assert stop.reason == OVER
    clock.now = 101.0
    assert stop.reason == OVER


def test_one_step_is_taken_however_short_the_slice():
    clock = Clock()
    stop = SliceStop(seconds=10, began=100.0, margin=2, clock=clock)
    clock.now = 500.0
    assert stop.reason is None
    clock.now = 501.0
    assert stop.reason == OVER


def test_a_request_comes_before_the_clock_and_is_kept():
    stop = SliceStop(seconds=60, began=0.0, margin=0, clock=lambda: 0.0)
    stop.ask("asked to stop")
    stop.ask("another")
    assert stop.reason == "asked to stop"


def test_a_slice_whose_giver_is_gone_saves_and_ends(monkeypatch: pytest.MonkeyPatch):
    stop = SliceStop(seconds=60, began=0.0, margin=0, clock=lambda: 0.0)
    assert stop.reason is None
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert stop.reason == ORPHANED


def test_a_run_in_slices_is_the_run_that_was_never_interrupted(
    assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = small("wavalign", steps=5, checkpoints={"every": 100, "keep": 2})
    whole = tmp_path / "whole"
    train(config, whole, assets)
    monkeypatch.setattr(slices, "_FASTER_BY", 1e9)  # every slice is one step
    folder = tmp_path / "sliced"
    folder.mkdir()
    save_config(config, folder / "config.yaml")
    made = [train_slice(folder, assets, None, 1, 60.0) for _ in range(5)]
    assert [each.step for each in made] == [1, 2, 3, 4, 5]
    assert [each.reason for each in made] == [OVER] * 4 + [""]
    assert made[-1].status == "completed"
    assert measured(folder) == measured(whole)
    for path in sorted((whole / "adapter").glob("*.safetensors")):
        assert (folder / "adapter" / path.name).read_bytes() == path.read_bytes()
    name = "checkpoints/step-5/optimiser.pt"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_has_one_slice_at_a_time(assets: Path, tmp_path: Path):
    with (tmp_path / LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunBusy, match="still being trained"):
            train_slice(tmp_path, assets, None, 1, 10.0, patience=0.2)


def test_what_fails_in_a_slice_is_a_reason_and_its_log_the_traceback(assets: Path, tmp_path: Path):
    save_config(small("wavalign", steps=2, base="nobody"), tmp_path / "config.yaml")
    made = train_slice(tmp_path, assets, None, 1, 10.0)
    assert made.status == "failed"
    assert "nobody" in made.reason
    assert "Traceback" in (tmp_path / "attempts" / "001" / "output.log").read_text()
