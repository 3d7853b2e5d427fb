"""``python -m wavalign.train`` in processes of its own: killed, interrupted, refused."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.test_loop import measured, train
from tests.training.tiny_run import small
from wavalign.train import main
from wavalign.training import checkpoints
from wavalign.training.config_files import save_config
from wavalign.training.journal import read_lines
from wavalign.training.run_lock import alone

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
ENVIRONMENT.pop("WAVALIGN_ATTEMPT", None)


def command(assets: Path, *arguments: object, disk: float = 0.0) -> list[str]:
    """``disk``: seconds that each file of a checkpoint takes, so that a save is there to be found, and a run is not
    over before it is stopped."""
    module = ["tests.app.slow_disk_trainer", disk] if disk else ["tests.training.letters"]
    words = [sys.executable, "-m", *module, "--quiet", "--assets", assets, *arguments]
    return [str(word) for word in words]


def start(assets: Path, *arguments: object, disk: float = 0.0) -> subprocess.Popen:
    words = command(assets, *arguments, disk=disk)
    return subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def wait_for(what, process: subprocess.Popen) -> None:
    limit = time.monotonic() + 400
    while not what():
        assert process.poll() is None, "the run ended early"
        assert time.monotonic() < limit, "the run takes too long"
        time.sleep(0.002)


def modified(path: Path) -> float:
    """Seconds since the epoch; 0 for what is gone by now."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    save_config(small("wavalign", steps=18, checkpoints={"every": 3, "keep": 2}), path)
    return path


@pytest.fixture(scope="module")
def straight(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("straight")
    train(small("wavalign", steps=18, checkpoints={"every": 3, "keep": 2}), folder, assets)
    return measured(folder)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(assets, tmp_path, config, straight) -> None:
    """SIGKILL once at a random step and once while a checkpoint is being written."""
    run = tmp_path / "run"
    process = start(assets, config, "--run", run, disk=0.05)
    steps = random.Random().randint(4, 10)
    print(f"killed after step {steps}")
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= steps, process)
    process.kill()
    process.wait()
    assert not (run / "result.json").exists()

    # The first kill may have left a half-written checkpoint; only one that this attempt began counts.
    began = time.time()
    process = start(assets, run, disk=0.2)
    wait_for(lambda: any(modified(path) > began for path in (run / "checkpoints").glob(".tmp-step-*")), process)
    process.kill()
    process.wait()
    assert checkpoints.latest(run / "checkpoints") is not None

    # Its end is no matter of a process of its own, whose start costs more than the steps.
    assert main([str(run), "--assets", str(assets), "--quiet"]) == 0
    assert json.loads((run / "result.json").read_text())["status"] == "completed"
    assert measured(run) == straight
    assert len(list((run / "attempts").iterdir())) == 3


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(assets, tmp_path, config, straight) -> None:
    run = tmp_path / "run"
    process = start(assets, config, "--run", run, disk=0.2)
    wait_for(lambda: len(read_lines(run / "metrics.jsonl")) >= 2, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0
    assert f"python -m wavalign.train {run}" in output
    stopped = json.loads((run / "result.json").read_text())
    assert stopped["status"] == "stopped"
    assert checkpoints.latest(run / "checkpoints").step == stopped["step"]
    assert "To go on" in (run / "attempts" / "001" / "output.log").read_text()
    assert main([str(run), "--assets", str(assets), "--quiet"]) == 0
    assert measured(run) == straight


def test_two_processes_do_not_train_one_run(assets, tmp_path, monkeypatch, capsys) -> None:
    """The second says so, and leaves the first one's folder as it is."""
    save_config(small("sft", steps=1), tmp_path / "config.yaml")
    monkeypatch.setattr("wavalign.train.PATIENCE", 0.2)
    with alone(tmp_path, 0.0):
        before = sorted(path.name for path in tmp_path.iterdir())
        assert main([str(tmp_path), "--assets", str(assets), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "is still being trained by another process. Stop that one first" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert main([str(tmp_path), "--assets", str(assets), "--quiet"]) == 0


def test_a_file_system_without_locks_is_said_and_trains(assets, tmp_path, monkeypatch, capsys) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    save_config(small("sft", steps=1), tmp_path / "config.yaml")
    monkeypatch.setattr("wavalign.training.run_lock.fcntl.flock", unsupported)
    assert main([str(tmp_path), "--assets", str(assets), "--quiet"]) == 0
    assert "has no locks: see to it that no other process trains it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wavalign/recipes/sft.yaml", "optimiser.lr=-1"], "optimiser.lr: input should be greater than 0"),
        (["wavalign/recipes/none.yaml"], "cannot be read"),
        (["wavalign/recipes/sft.yaml", "--run", f"{__file__}/run"], "test_command.py/run (Not a directory)"),
        (["wavalign/recipes/sft.yaml", "--run", "a" * 300], "(File name too long)"),
        (["a" * 300], "(File name too long)"),
    ],
)
def test_a_wrong_config_makes_no_run(arguments, said, tmp_path, capsys) -> None:
    home = tmp_path / "home"
    assert main([*arguments, "--home", str(home)]) == 2
    assert said in capsys.readouterr().err
    assert not home.exists()


def test_threads_that_do_not_fit_are_refused_before_a_run_is_made(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit):
        main(["wavalign/recipes/sft.yaml", "--threads", "0", "--home", str(tmp_path / "home")])
    assert "'0' is not a whole number from 1 on" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_a_run_is_not_written_over(assets, tmp_path, capsys) -> None:
    save_config(small("sft", steps=1), tmp_path / "config.yaml")
    arguments = [str(tmp_path / "config.yaml"), "--assets", str(assets), "--run", str(tmp_path / "run"), "--quiet"]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_what_cannot_be_trained_is_one_sentence_and_a_failed_result(assets, tmp_path, capsys) -> None:
    save_config(small("sft", base="nobody"), tmp_path / "config.yaml")
    run = tmp_path / "run"
    assert main([str(tmp_path / "config.yaml"), "--assets", str(assets), "--run", str(run)]) == 1
    assert 'There is no checkpoint "nobody"' in capsys.readouterr().err
    assert json.loads((run / "result.json").read_text())["status"] == "failed"


def test_every_field_is_explained(capsys) -> None:
    assert main(["--fields"]) == 0
    text = capsys.readouterr().out
    assert "optimiser.lr=0.001  Learning rate at its peak." in text
    assert "method.mix.kind=wavalign" in text
