"""Two apps on one PostgreSQL and one home, behind a proxy: whichever is asked answers as one app would."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select

from app.jobs.job import FINAL
from app.jobs.launchers import ZERO_GPU
from app.jobs.queue import Queue
from app.pages.arena_desk import FOREIGN, STRANGER, Desk
from app.services import Services
from app.settings import Settings
from app.store import Store, open_store
from app.store.schema import VoteRow
from tests.app import postgres
from tests.app.assets import make_tiny_assets
from tests.app.hosted import Person, until
from tests.app.replicas import Replicas, running
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import save_config
from wavalign.training.journal import CONFIG, read_lines


@pytest.fixture(scope="module")
def replicas(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    assets = make_tiny_assets(tmp_path_factory.mktemp("assets"))
    database = postgres.make_database(postgres_server, f"replicas_{secrets.token_hex(4)}")
    with running(tmp_path_factory.mktemp("home"), assets, database) as both:
        yield both


@pytest.fixture(scope="module")
def store(replicas: Replicas) -> Iterator[Store]:
    """What a third process sees of the database."""
    opened = open_store(replicas.home, replicas.database)
    yield opened
    opened.close()


@pytest.fixture
def rater(replicas: Replicas) -> tuple[Person, Person]:
    """One rater, through the first replica and through the second."""
    first, second = replicas.person(at=0), replicas.person(at=1)
    second.join()
    first.token = second.token
    return first, second


def votes(store: Store, *battles: str) -> list[tuple[str, int]]:
    """Battle and strength of every vote there is of these battles, undone ones included."""
    with store.reading() as session:
        rows = session.scalars(select(VoteRow).where(VoteRow.battle.in_(battles)))
        return sorted((row.battle, row.strength) for row in rows)


def test_a_battle_of_one_replica_is_heard_voted_on_undone_and_revealed_through_the_other(
    replicas: Replicas, rater: tuple[Person, Person]
):
    first, second = rater
    battle = second.ask()
    first.listen(battle)  # the recordings, written by the other process
    assert first.arena("vote", battle=battle, choice=2)["votes"] == 1
    assert second.arena("undo", battle=battle)["votes"] == 0
    assert second.arena("vote", battle=battle, choice=-1)["votes"] == 1
    names = until(lambda: first.arena("reveal", battle=battle).get("reveal"))
    assert second.arena("reveal", battle=battle)["reveal"] == names
    assert [len(each.arena("mine")["mine"]) for each in rater] == [1, 1]


def test_the_same_vote_through_both_at_once_counts_once(store: Store, rater: tuple[Person, Person]):
    battle = rater[1].ask()
    rater[0].listen(battle)
    for number in (1, 2, 3):
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda each: each.arena("vote", battle=battle, choice=1), rater))
        assert [answer["votes"] for answer in answers] == [1, 1]
        assert len(votes(store, battle)) == number
        if number < 3:
            assert rater[number % 2].arena("undo", battle=battle)["votes"] == 0


def test_a_job_that_waits_is_started_by_one_and_stopped_through_the_other(replicas: Replicas, store: Store):
    queue, folder = Queue(store), replicas.home / "runs" / "toy-001"
    folder.mkdir(parents=True)
    save_config(TrainConfig(name="toy"), folder / CONFIG)
    command = [sys.executable, "-m", "tests.app.toy_trainer", str(folder), "--steps", "100000"]
    id = queue.add(folder.name, folder, settings={"command": command}).id  # both look for jobs that wait
    until(lambda: len(read_lines(folder / "metrics.jsonl")) >= 2, 300)
    parent = psutil.Process(queue.get(id).runner).ppid()
    starter = [process.pid for process in replicas.processes].index(parent)
    first, other = (replicas.host(at) for at in (starter, 1 - starter))
    assert "error" not in other.call("train", {"do": "stop", "job": id})
    until(lambda: queue.get(id).state in FINAL, 300)
    for each in (first, other):
        (run,) = [line for line in each.call("train", {"do": "watch"})["runs"] if line["id"] == id]
        assert (run["state"], run["reason"]) == ("stopped", queue.get(id).reason)
    assert queue.get(id).attempt == 1
    assert [each.name for each in (folder / "attempts").iterdir()] == ["001"]
    assert [line["event"] for line in read_lines(folder / "events.jsonl")].count("started") == 1


def test_two_queues_never_claim_the_same_job(replicas: Replicas, store: Store):
    second = open_store(replicas.home, replicas.database)
    queues = [Queue(store), Queue(second)]
    for number in range(10):
        # Of a launcher for which no replica takes a job on this machine.
        id = queues[0].add("job", Path(f"/runs/{number}"), launcher=ZERO_GPU).id
        with ThreadPoolExecutor(2) as pool:
            claimed = list(pool.map(lambda queue: queue.claim_remote("machine"), queues))
        assert [job.id for job in claimed if job is not None] == [id]
        assert queues[1].finish(id, 1, "stopped", "on request")
    second.close()


def test_an_id_of_another_secret_is_a_stranger_and_the_host_reads_why(
    replicas: Replicas, rater: tuple[Person, Person], capsys: pytest.CaptureFixture[str]
):
    other = Settings(replicas.home, replicas.assets, database=replicas.database, secret="not what the others share")
    desk = Desk(Services(other))
    told = desk.answer({"do": "vote", "token": rater[0].token, "battle": "b", "choice": 1})
    assert told == {"error": {"code": "rater", "message": STRANGER}}
    assert "WAVALIGN_SECRET" in FOREIGN
    assert capsys.readouterr().out == FOREIGN + "\n"
    assert rater[0].arena("vote", token=desk.services.raters.issue(), battle="b", choice=1) == told
    assert FOREIGN in replicas.log(0)
    assert desk.answer({"do": "hello", "token": rater[0].token})["token"] != rater[0].token  # as after a reload
    assert desk.answer({"do": "hello", "token": "made up"})["token"]
    assert capsys.readouterr().out == ""  # said once, not at every message
    desk.services.voting.store.close()


def test_a_replica_that_is_killed_loses_no_vote_and_the_other_goes_on(replicas: Replicas, store: Store):
    raters = [replicas.person(at=0) for _ in range(3)]
    for each in raters:
        each.join()
    beginners = [replicas.person(at=1, token=each.token) for each in raters]
    battles = [each.ask() for each in beginners]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Person.listen, raters, battles))
        sent = [pool.submit(voted, *each) for each in zip(raters, battles, (-3, 1, 2), strict=True)]
        until(lambda: any(vote.done() for vote in sent))
        replicas.kill(0)
        receipts = [vote.result() for vote in sent]
    assert [receipt["receipt"]["choice"] for receipt in receipts] == [-3, 1, 2]
    assert votes(store, *battles) == sorted(zip(battles, (-3, 1, 2), strict=True))
    for each, choice in zip(raters, (-3, 1, 2), strict=True):
        (mine,) = each.arena("mine")["mine"]
        assert mine["choice"] == choice
    newcomer = replicas.person()
    newcomer.join()
    assert newcomer.ask()
    assert {newcomer.http.get(path).status_code for path in ("/", "/arena", "/readyz") * 2} == {200}


def voted(rater: Person, battle: str, choice: int) -> dict[str, Any]:
    """Sends the vote until it is acknowledged, as a page's person does when the connection breaks."""

    def sent() -> dict[str, Any] | None:
        try:
            return rater.arena("vote", battle=battle, choice=choice)
        except (httpx.TransportError, AssertionError):
            return None

    return until(sent)
