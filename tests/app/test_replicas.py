"""Two replicas on one PostgreSQL and one home: whichever of them a request reaches, it is answered as one app would."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app.store import open_store
from app.store.schema import VoteRow
from tests.app import postgres


class Replicas:
    """``ask`` goes to one after the other, as a proxy without affinity sends requests."""

    def __init__(self, home: Path, database: str) -> None:
        self.home, self.database = home, database
        self.processes: list[subprocess.Popen] = []
        self.ports: list[int] = []
        for _ in range(2):
            self.start()
        for process in self.processes:
            self.ports.append(int(process.stdout.readline()))
        self.turn = cycle(range(2))

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.app.replica", str(self.home), self.database]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self.processes.append(process)
        return process

    def ask(self, do: str, at: int | None = None, **message: Any) -> dict[str, Any]:
        port = self.ports[next(self.turn) if at is None else at]
        body = json.dumps({"do": do, **message}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def both(self, do: str, **message: Any) -> list[dict[str, Any]]:
        """The same message through both at once."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda at: self.ask(do, at=at, **message), range(2)))

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def replicas(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    home = tmp_path_factory.mktemp("home")
    (home / "assets").mkdir()
    database = postgres.make_database(postgres_server, f"replicas_{secrets.token_hex(4)}")
    open_store(home, database).close()
    made = Replicas(home, database)
    yield made
    made.end()


@pytest.fixture
def rater(replicas: Replicas) -> str:
    """A token that one replica issued and the other knows."""
    token = replicas.ask("hello", at=0)["token"]
    assert "token" not in replicas.ask("hello", at=1, token=token)
    assert replicas.ask("consent", at=1, token=token, level="research")["consent"] == "research"
    return token


def votes(replicas: Replicas, battle: str) -> int:
    store = open_store(replicas.home, replicas.database)
    try:
        with store.reading() as session:
            return session.scalar(select(func.count()).where(VoteRow.battle == battle))
    finally:
        store.close()


def test_a_battle_of_one_replica_is_heard_voted_on_undone_and_revealed_through_the_other(
    replicas: Replicas, rater: str
) -> None:
    battle = replicas.ask("open", at=0, token=rater)["battle"]
    (turn,) = replicas.ask("fetch", at=1, token=rater, battle=battle)["turns"]
    assert json.dumps(turn).count("UklGR") == 3  # the question and both sides, written by the other process
    assert replicas.ask("vote", at=1, token=rater, battle=battle, choice=2)["votes"] == 1
    assert replicas.ask("undo", at=0, token=rater, battle=battle)["votes"] == 0
    assert replicas.ask("vote", at=0, token=rater, battle=battle, choice=-1)["receipt"]["choice"] == -1
    assert replicas.ask("reveal", at=1, token=rater, battle=battle)["reveal"]


def test_votes_through_both_at_once_count_once(replicas: Replicas, rater: str) -> None:
    for number in range(5):
        battle = replicas.ask("open", token=rater)["battle"]
        replicas.ask("fetch", token=rater, battle=battle)
        answers = replicas.both("vote", token=rater, battle=battle, choice=1)
        assert all("receipt" in answer for answer in answers), answers
        assert votes(replicas, battle) == 1
        assert replicas.ask("hello", token=rater)["votes"] == number + 1
        replicas.ask("reveal", token=rater, battle=battle)


def test_a_job_is_started_once_and_stopped_from_the_other(replicas: Replicas) -> None:
    for number in range(5):
        job = replicas.ask("queue", folder=f"/runs/{number}")["job"]
        assert sorted(str(each["job"]) for each in replicas.both("claim")) == sorted([job, "None"])
        assert replicas.ask("ask to stop", at=number % 2, job=job)["moved"]
        assert replicas.ask("job", at=1 - number % 2, job=job) == {"state": "stopping", "asked": 1, "attempt": 1}
        store = open_store(replicas.home, replicas.database)
        from app.jobs.queue import Queue

        assert Queue(store).finish(job, 1, "stopped", "on request")
        store.close()


def test_a_replica_that_is_killed_loses_nothing(replicas: Replicas, rater: str) -> None:
    battle = replicas.ask("open", at=0, token=rater)["battle"]
    replicas.ask("fetch", at=0, token=rater, battle=battle)
    assert replicas.ask("vote", at=0, token=rater, battle=battle, choice=3)["receipt"]
    os.kill(replicas.processes[0].pid, signal.SIGKILL)
    replicas.processes[0].wait()
    found = replicas.ask("fetch", at=1, token=rater, battle=battle)
    assert found["receipt"]["choice"] == 3
    assert replicas.ask("vote", at=1, token=rater, battle=battle, choice=3)["receipt"]  # sent again, counted once
    assert votes(replicas, battle) == 1
    second = replicas.ask("open", at=1, token=rater)
    assert "battle" in second
