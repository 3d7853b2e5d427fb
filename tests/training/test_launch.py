"""One function makes the command that trains; what the documentation shows is what it makes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from app.jobs.launchers import hf_worker, slurm
from app.jobs.launchers.hf_jobs import WORK
from app.jobs.runner import train_command as of_the_local_runner
from wavalign.launch.__main__ import main
from wavalign.launch.commands import LaunchError, Meeting, train_command

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "many-machines.md").read_text(encoding="utf-8")


def printed(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out.strip()


def test_every_launcher_takes_its_command_from_the_same_function() -> None:
    assert hf_worker.train_command is slurm.train_command is of_the_local_runner is train_command


def test_the_page_shows_what_the_launchers_run(capsys) -> None:
    eight = printed("RUN", "--processes", "8", capsys=capsys)
    two = printed("RUN", "--processes", "16", "--nodes", "2", "--meet", "node01:29500", capsys=capsys)
    work = Path(WORK)
    rented = train_command(work / "runs" / "RUN", work / "code" / "assets", work / "home", 8, python="python")
    by_hand = two.replace("node01", "$(hostname)")
    for command in (eight, two, shlex.join(rented)):
        assert f"\n{command}\n" in PAGE
    assert f"\nsrun --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 {by_hand}\n" in PAGE
    assert "accelerate launch --config_file wavalign/launch/fsdp2.yaml --num_processes 8" in PAGE


def test_one_process_needs_no_launcher() -> None:
    assert train_command("RUN", processes=1, python="python") == ["python", "-m", "wavalign.train", "RUN"]


@pytest.mark.parametrize(
    ("processes", "nodes", "meeting", "said"),
    [
        (3, 2, Meeting("a", 1, "x"), "cannot be shared evenly"),
        (16, 2, None, "a place to meet"),
        (0, 1, None, "at least one process, got 0"),
        (-2, 2, Meeting("a", 1, "x"), "at least one process, got -2"),
    ],
)
def test_machines_that_cannot_work_together_are_refused(processes, nodes, meeting, said) -> None:
    with pytest.raises(LaunchError, match=said):
        train_command("RUN", processes=processes, nodes=nodes, meeting=meeting)
