"""A fresh copy of the program on a Space: the whole loop, a sudden end in the middle of it, and the loop to its end."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.app.hosted import SPACE, ZERO_GPU, Machine, Person, fresh_copy, until
from tests.app.test_hosting_files import of
from tests.training.test_loop import measured, train
from wavalign.training.config_files import load_config

STEPS = 60
CHANGES = {
    "steps": str(STEPS),
    "batch": "2",
    "micro_batch": "2",
    "evaluation.every": "0",
    "checkpoints.every": "5",
    "name": "mine",
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture(params=["space", "zerogpu"])
def machine(request: pytest.FixtureRequest, copy: Path, tmp_path: Path) -> Iterator[Machine]:
    environment = {"FAKE_SPACES_LOG": str(tmp_path / "calls.jsonl"), **ZERO_GPU} if request.param == "zerogpu" else {}
    made = Machine(copy, tmp_path, environment)
    yield made
    made.kill()


def test_the_whole_loop_and_a_sudden_end_in_the_middle_loses_nothing(machine: Machine, copy: Path, tmp_path: Path):
    machine.start()
    rater, owner = Person(machine), Person(machine, "ann")
    assert '"peaks"' in rater.talk("what is one plus two")  # a reply with sound came
    rater.join()
    battle = rater.ask()
    assert rater.listen_and_vote(battle)["votes"] == 1
    second = rater.ask()
    job = begin_training(owner)
    folder = machine.home / "runs" / "mine-001"
    until(lambda: len(measured(folder)) >= 8)
    asking = threading.Thread(target=ask_until_cut, args=(rater,), daemon=True)
    asking.start()
    time.sleep(0.3)  # a question is being answered, and a step taken
    machine.kill()
    taken = len(measured(folder))
    assert taken < STEPS, "the run was over before the machine was"

    machine.start()
    rater, owner = Person(machine, token=rater.token), Person(machine, "ann")
    assert [vote["receipt"] for vote in rater.arena("mine")["mine"]]
    assert rater.arena("fetch", battle=second, after=0)["turns"]  # it is there to be heard, and to be voted on
    assert rater.listen_and_vote(second)["votes"] == 2
    run = until(lambda: ended(owner, job), 300)
    assert run["state"] == "completed", run["reason"]
    train(load_config(folder / "config.yaml"), tmp_path / "whole", copy / "assets")
    assert measured(folder) == measured(tmp_path / "whole")  # every step as if nothing had happened
    for path in sorted((tmp_path / "whole" / "adapter").glob("*.safetensors")):
        assert (folder / "adapter" / path.name).read_bytes() == path.read_bytes()
    assert rater.ask() is not None

    assert "error" not in owner.call("train", {"do": "promote", "job": job, "name": "better"})
    line = until(lambda: promoted(owner, job), 300)
    assert line["promoted"] == "better", line["promotion"]["words"]
    made = machine.run(sys.executable, "-m", "app.export", "write", str(tmp_path / "votes"))
    assert made.returncode == 0, made.stderr
    assert pq.read_table(tmp_path / "votes" / "preference").num_rows == 2
    (check,) = of("HEALTHCHECK")
    command = json.loads(check[check.index("CMD") + 3 :])
    assert machine.run(sys.executable, *command[1:]).returncode == 0, shlex.join(command)
    if machine.environment:
        calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
        assert {call["task"] for call in calls} == {"_replies", "_work"}
        assert {call["duration"] for call in calls} >= {60, 10, 120}  # replies, slices, what is promoted

    assert machine.terminate() == 0
    assert machine.events("ended")
    until(lambda: not machine.processes(), 30)
    for number in (1, 2):
        written = (tmp_path / f"log-{number}.jsonl").read_text()
        assert all(json.loads(line) for line in written.splitlines())
        assert not any(secret in written for secret in (SPACE["WAVALIGN_SECRET"], "198.51.100.7", "one plus two"))
    # Gradio itself looks for the package whose stand-in is no installed one.
    failed = [event for event in machine.events("exception") if "watchfn_spaces" not in str(event["frames"])]
    assert failed == []


def begin_training(owner: Person) -> str:
    form = owner.call("train", {"do": "hello"})["form"]
    plain = owner.call("train", {"do": "fill", "recipe": "sft"})["plain"]
    message = {"do": "start", "plain": plain, "changes": CHANGES, "launcher": form["launchers"][0], "recipe": "sft"}
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
    return line if line.get("promotion", {}).get("state") in ("done", "failed") else None
