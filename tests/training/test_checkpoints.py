"""A checkpoint is whole or it is not there."""

from __future__ import annotations

import json

import pytest

from wavalign.training import checkpoints
from wavalign.training.checkpoints import BrokenCheckpoint


def write(folder):
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"123")


def test_what_was_saved_is_found(tmp_path):
    checkpoints.save(tmp_path, 5, {"lambda": 0.4}, write)
    found = checkpoints.latest(tmp_path)
    assert (found.step, found.state["lambda"]) == (5, 0.4)
    assert (found.folder / "inner" / "weights").read_bytes() == b"123"


def test_a_broken_one_is_passed_over(tmp_path):
    for step in (9, 10, 11, 12):
        checkpoints.save(tmp_path, step, {}, write)
    (tmp_path / "step-12" / "manifest.json").unlink()
    (tmp_path / "step-11" / "inner" / "weights").write_bytes(b"12")
    (tmp_path / ".tmp-step-13").mkdir()
    assert checkpoints.latest(tmp_path).step == 10
    with pytest.raises(BrokenCheckpoint, match="not the file that was saved"):
        checkpoints.read(tmp_path / "step-11")


def test_a_failed_save_leaves_the_last_one(tmp_path):
    checkpoints.save(tmp_path, 1, {}, write)

    def fails(folder):
        write(folder)
        raise OSError("No space left on device")

    with pytest.raises(OSError):
        checkpoints.save(tmp_path, 2, {}, fails)
    assert checkpoints.latest(tmp_path).step == 1


def test_saving_a_step_again_replaces_it(tmp_path):
    checkpoints.save(tmp_path, 1, {"take": 1}, write)
    checkpoints.save(tmp_path, 1, {"take": 2}, write)
    assert checkpoints.latest(tmp_path).state["take"] == 2


def test_the_newest_are_kept(tmp_path):
    for step in (2, 10, 6):
        checkpoints.save(tmp_path, step, {}, write)
    (tmp_path / ".tmp-step-20").mkdir()
    checkpoints.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-6"]


def test_nothing_there_is_no_checkpoint(tmp_path):
    assert checkpoints.latest(tmp_path / "none") is None
    manifest = tmp_path / "step-3" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"files": {}}))
    assert checkpoints.latest(tmp_path) is None
