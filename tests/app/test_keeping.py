"""A machine that forgets, with a bucket: runs and checkpoints are copied there whole, and come back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from app.keeping import Keeping, keeping_of
from app.place import Place
from app.settings import Settings
from wavalign.training import checkpoints


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run at step 10 with an older state and a half-written one, and a promoted checkpoint."""
    run = tmp_path / "home" / "runs" / "mine-001"
    for step in (5, 10):
        checkpoints.save(
            run / "checkpoints", step, {}, lambda folder: (folder / "weights").write_text("w" * 50) and None
        )
    (run / "checkpoints" / ".tmp-step-15").mkdir()
    (run / "checkpoints" / ".tmp-step-15" / "weights").write_text("half")
    (run / "config.yaml").write_text("name: mine\n")
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    adapter = tmp_path / "home" / "checkpoints" / "better"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (tmp_path / "home" / "checkpoints.yaml").write_text("{}\n")
    return tmp_path / "home"


def kept(tmp_path: Path) -> set[str]:
    place = tmp_path / "bucket" / "wavalign-workbench"
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}


def test_what_is_whole_is_copied_and_comes_back(home: Path, tmp_path: Path):
    assert Keeping(home, tmp_path / "bucket").keep() > 0
    assert not [name for name in kept(tmp_path) if "tmp-step" in name or "step-5" in name]
    fresh = tmp_path / "fresh"
    assert Keeping(fresh, tmp_path / "bucket").bring_back() == 2
    assert checkpoints.latest(fresh / "runs" / "mine-001" / "checkpoints").step == 10
    assert (fresh / "checkpoints" / "better" / "adapter_model.safetensors").read_bytes() == b"weights"
    assert (fresh / "checkpoints.yaml").is_file()


def test_only_what_grew_is_copied_again_and_the_older_state_goes(home: Path, tmp_path: Path):
    keeping = Keeping(home, tmp_path / "bucket")
    keeping.keep()
    assert keeping.keep() == 0
    (home / "runs" / "mine-001" / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    checkpoints.save(home / "runs" / "mine-001" / "checkpoints", 20, {}, lambda folder: None)
    assert keeping.keep() > 1
    steps = {name.split("/")[3] for name in kept(tmp_path) if "/checkpoints/step-" in name}
    assert steps == {"step-20"}


def test_a_copy_that_was_cut_off_is_no_state(home: Path, tmp_path: Path):
    Keeping(home, tmp_path / "bucket").keep()
    manifest = "runs/mine-001/checkpoints/step-10/manifest.json"
    (tmp_path / "bucket" / "wavalign-workbench" / manifest).unlink()
    fresh = tmp_path / "fresh"
    Keeping(fresh, tmp_path / "bucket").bring_back()
    assert checkpoints.latest(fresh / "runs" / "mine-001" / "checkpoints") is None


def finished(home: Path, step: int) -> None:
    """A run's end, as the trainer leaves it: the adapter and the result of equal sizes at whatever step.

    Each step has a time of its own: two that are written at once have one where a file system's clock ticks slowly.
    """
    run = home / "runs" / "mine-001"
    (run / "adapter").mkdir(exist_ok=True)
    (run / "adapter" / "adapter_model.safetensors").write_bytes(f"weights of {step}".encode())
    (run / "adapter" / "adapter_config.json").write_text("{}")
    (run / "result.json").write_text(json.dumps({"step": step}))
    for path in (*(run / "adapter").iterdir(), run / "result.json"):
        os.utime(path, (step, step))


@pytest.mark.parametrize("same_program", [True, False])
def test_weights_replaced_by_others_of_equal_size_are_copied(home: Path, tmp_path: Path, same_program: bool):
    finished(home, 3)
    keeping = Keeping(home, tmp_path / "bucket")
    keeping.keep()
    finished(home, 8)
    (keeping if same_program else Keeping(home, tmp_path / "bucket")).keep()
    fresh = Keeping(tmp_path / "fresh", tmp_path / "bucket")
    fresh.bring_back()
    run = tmp_path / "fresh" / "runs" / "mine-001"
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights of 8"
    assert json.loads((run / "result.json").read_text()) == {"step": 8}
    finished(tmp_path / "fresh", 9)
    assert fresh.keep() == 3  # the weights, and both files that call them whole


def test_a_copy_that_is_cut_is_not_taken_for_whole_and_the_next_look_mends_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    finished(home, 3)
    keeping = Keeping(home, tmp_path / "bucket")
    keeping.keep()
    finished(home, 8)

    def cut(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes()[:4] + bytes(8))  # of the size of the whole
        raise OSError("the bucket went away")

    with monkeypatch.context() as context:
        context.setattr("app.keeping.shutil.copyfile", cut)
        with pytest.raises(OSError, match="went away"):
            keeping.keep()
    run = tmp_path / "bucket" / "wavalign-workbench" / "runs" / "mine-001"
    assert not (run / "result.json").exists()
    assert not (run / "adapter" / "adapter_config.json").exists()
    Keeping(home, tmp_path / "bucket").keep()
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights of 8"
    assert json.loads((run / "result.json").read_text()) == {"step": 8}
    assert (run / "adapter" / "adapter_config.json").is_file()


def test_no_result_stands_beside_weights_that_were_replaced_while_they_were_copied(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    finished(home, 3)
    copyfile = shutil.copyfile

    def copy(source: Path, target: Path) -> None:
        copyfile(source, target)
        if Path(source).name == "adapter_model.safetensors" and Path(source).parent.name == "adapter":
            finished(home, 8)
            monkeypatch.setattr("app.keeping.shutil.copyfile", copyfile)

    monkeypatch.setattr("app.keeping.shutil.copyfile", copy)
    keeping = Keeping(home, tmp_path / "bucket")
    keeping.keep()
    run = tmp_path / "bucket" / "wavalign-workbench" / "runs" / "mine-001"
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights of 3"
    assert not (run / "result.json").exists()
    assert not (run / "adapter" / "adapter_config.json").exists()
    keeping.keep()
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights of 8"
    assert json.loads((run / "result.json").read_text()) == {"step": 8}


def test_what_is_here_is_not_overwritten_by_what_was_kept(home: Path, tmp_path: Path):
    Keeping(home, tmp_path / "bucket").keep()
    (home / "runs" / "mine-001" / "config.yaml").write_text("name: newer\n")
    assert Keeping(home, tmp_path / "bucket").bring_back() == 0
    assert (home / "runs" / "mine-001" / "config.yaml").read_text() == "name: newer\n"


def test_what_is_deleted_here_is_deleted_there_but_a_lost_disk_deletes_nothing(home: Path, tmp_path: Path):
    keeping = Keeping(home, tmp_path / "bucket")
    keeping.keep()
    shutil.rmtree(home / "runs" / "mine-001")
    keeping.keep()
    assert not [name for name in kept(tmp_path) if name.startswith("runs/")]
    Keeping(tmp_path / "empty", tmp_path / "bucket").keep()
    assert "checkpoints/better/adapter_config.json" in kept(tmp_path)


def test_a_bucket_that_cannot_be_written_is_told_once(home: Path, tmp_path: Path):
    (tmp_path / "bucket").write_text("in the way")
    told: list[str] = []
    keeping = Keeping(home, tmp_path / "bucket", told.append)
    keeping._once()
    keeping._once()
    assert len(told) == 1
    assert "cannot be copied" in told[0]
    assert json.loads((home / "checkpoints" / "better" / "adapter_config.json").read_text()) == {}


def test_the_app_brings_back_first_and_copies_at_its_end(home: Path, tmp_path: Path):
    (tmp_path / "bucket").mkdir()
    place = Place(kind="space", space="ann/arena", bucket=tmp_path / "bucket")
    keeping_of(Settings(home, tmp_path, place=place)).stop()
    fresh = Settings(tmp_path / "fresh", tmp_path, place=place)
    keeping_of(fresh).stop()
    assert (fresh.home / "checkpoints" / "better" / "adapter_config.json").is_file()
    assert keeping_of(Settings(home, tmp_path)) is None
