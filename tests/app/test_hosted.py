"""A fresh copy of the program on a Space: the whole loop, a sudden end in the middle of it, and the loop to its end."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.app.hosted import SPACE, ZERO_GPU, Machine, Person, fresh_copy, until
from tests.app.test_hosting_files import of
from tests.training.test_loop import measured, train
from wavalign.training.config_files import load_config

pytestmark = pytest.mark.long
STEPS = 60
CHANGES = {
    "batch": "2",
    "micro_batch": "2",
    "evaluation.every": "0",
    "checkpoints.every": "5",
    "name": "mine",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_copy(tmp_path_factory.mktemp("copy"))


def test_the_whole_loop_on_a_space(copy: Path, tmp_path: Path):
    with running(copy, tmp_path) as machine:
        rater, owner = Person(machine), Person(machine, "ann")
        assert '"peaks"' in rater.talk("what is one plus two")  # a reply with sound came
        rater.join()
        assert rater.listen_and_vote(rater.ask())["votes"] == 1
        job = begin_training(owner, steps=2)
        run = until(lambda: ended(owner, job), 300)
        assert run["state"] == "completed", run["reason"]
        rater.outwait_undo()
        exported(machine, tmp_path, votes=1)
        (check,) = of("HEALTHCHECK")
        command = json.loads(check[check.index("CMD") + 3 :])
        assert machine.run(sys.executable, *command[1:]).returncode == 0
        ends_well(machine, tmp_path)


def test_on_a_lent_gpu_a_sudden_end_in_the_middle_loses_nothing(copy: Path, tmp_path: Path):
    environment = {"FAKE_SPACES_LOG": str(tmp_path / "calls.jsonl"), **ZERO_GPU}
    with running(copy, tmp_path, environment) as machine:
        rater, owner = Person(machine), Person(machine, "ann")
        assert '"peaks"' in rater.talk("what is one plus two")
        rater.join()
        assert rater.listen_and_vote(rater.ask())["votes"] == 1
        second = rater.ask()
        job = begin_training(owner, STEPS)
        folder = machine.home / "runs" / "mine-001"
        threading.Thread(target=ask_until_cut, args=(rater,), daemon=True).start()
        until(lambda: len(measured(folder)) >= 8)  # meanwhile questions are being answered
        machine.kill()
        assert len(measured(folder)) < STEPS, "the run was over before the machine was"

        machine.start()
        rater, owner = Person(machine, token=rater.token), Person(machine, "ann")
        assert len(rater.arena("mine")["mine"]) == 1
        assert rater.listen_and_vote(second)["votes"] == 2  # it was there to be heard, and to be voted on
        run = until(lambda: ended(owner, job), 300)
        assert run["state"] == "completed", run["reason"]
        train(load_config(folder / "config.yaml"), tmp_path / "whole", copy / "assets")
        assert measured(folder) == measured(tmp_path / "whole")  # every step as if nothing had happened
        for path in sorted((tmp_path / "whole" / "adapter").glob("*.safetensors")):
            assert (folder / "adapter" / path.name).read_bytes() == path.read_bytes()
        assert "error" not in owner.call("train", {"do": "promote", "job": job, "name": "better"})
        line = until(lambda: promoted(owner, job), 300)
        assert line["promoted"] == "better", line["promotion"]["words"]
        rater.outwait_undo()
        exported(machine, tmp_path, votes=2)
        calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
        assert {call["task"] for call in calls} == {"_replies", "_work"}
        assert {call["duration"] for call in calls} == {60, 10, 120}  # replies, slices, what is promoted
        ends_well(machine, tmp_path)


@contextmanager
def running(copy: Path, disk: Path, environment: Mapping[str, str] = MappingProxyType({})) -> Iterator[Machine]:
    machine = Machine(copy, disk, environment)
    try:
        machine.start()
        yield machine
    finally:
        machine.kill()


def exported(machine: Machine, tmp_path: Path, votes: int) -> None:
    made = machine.run(sys.executable, "-m", "app.export", "write", str(tmp_path / "votes"))
    assert made.returncode == 0, made.stderr
    assert pq.read_table(tmp_path / "votes" / "preference").num_rows == votes


def ends_well(machine: Machine, tmp_path: Path) -> None:
    """Told to end, it does so with nothing left, and its log holds JSON and no secret, address or words."""
    assert machine.terminate() == 0
    assert machine.events("ended")
    until(lambda: not machine.processes(), 30)
    for path in tmp_path.glob("log-*.jsonl"):
        written = path.read_text()
        assert all(json.loads(line) for line in written.splitlines())
        assert not any(secret in written for secret in (SPACE["WAVALIGN_SECRET"], "198.51.100.7", "one plus two"))
    # Gradio itself looks for the package whose stand-in is no installed one.
    failed = [event for event in machine.events("exception") if "watchfn_spaces" not in str(event["frames"])]
    assert failed == []


def begin_training(owner: Person, steps: int) -> str:
    form = owner.call("train", {"do": "hello"})["form"]
    plain = owner.call("train", {"do": "fill", "recipe": "sft"})["plain"]
    message = {
        "do": "start",
        "plain": plain,
        "changes": {**CHANGES, "steps": str(steps)},
        "launcher": form["launchers"][0],
        "recipe": "sft",
    }
    started = owner.call("train", message)
    assert "job" in started, started
    return started["job"]


def ask_until_cut(rater: Person) -> None:
    try:
        while True:
            rater.ask()
    except Exception:  # the machine ended, however that looks from here
        return


def ended(owner: Person, job: str) -> dict[str, Any] | None:
    line = next(each for each in owner.call("train", {"do": "watch"})["runs"] if each["id"] == job)
    return line if line["state"] in ("completed", "stopped", "failed", "crashed") else None


def promoted(owner: Person, job: str) -> dict[str, Any] | None:
    line = next(each for each in owner.call("train", {"do": "watch"})["runs"] if each["id"] == job)
    return line if line["promoted"] or line.get("promotion", {}).get("state") == "failed" else None
