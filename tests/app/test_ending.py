"""The app ends without cutting anything off, says how it is, and its log says nothing that it should not."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import health, logs
from app.ending import end
from app.services import Services
from app.settings import Settings
from app.under_way import ClosingError, UnderWay


def test_what_is_under_way_is_finished_and_nothing_new_is_begun():
    under_way, finish, told = UnderWay(), threading.Event(), []

    def answer() -> None:
        with under_way.answering(stop := threading.Event()):
            finish.wait(60)
            told.append(stop.is_set())

    thread = threading.Thread(target=answer)
    thread.start()
    while not under_way.count:
        time.sleep(0.001)
    closing = threading.Thread(target=lambda: told.append(under_way.close(60)))
    closing.start()
    while not under_way.is_closed:
        time.sleep(0.001)
    with pytest.raises(ClosingError, match="restart"), under_way.answering(threading.Event()):
        pass
    finish.set()
    closing.join()
    thread.join()
    assert told == [False, 0]  # it was not asked to stop, and none was left


def test_a_long_reply_is_asked_to_stop_and_one_that_does_not_hear_is_counted():
    under_way = UnderWay()
    hears, deaf = threading.Event(), threading.Event()
    let_go = threading.Event()

    def answer(stop: threading.Event, until: threading.Event) -> None:
        with under_way.answering(stop):
            until.wait(60)

    threads = [
        threading.Thread(target=answer, args=(hears, hears)),
        threading.Thread(target=answer, args=(deaf, let_go)),
    ]
    for thread in threads:
        thread.start()
    while under_way.count < 2:
        time.sleep(0.001)
    assert under_way.close(patience=0.01, grace=2.0) == 1
    assert hears.is_set()
    assert deaf.is_set()
    let_go.set()
    for thread in threads:
        thread.join()


def test_votes_are_flushed_after_the_last_reply_and_jobs_save_last():
    order: list[str] = []
    services = SimpleNamespace(under_way=UnderWay(), pause_jobs=lambda patience: order.append("jobs"))

    def answer() -> None:
        with services.under_way.answering(threading.Event()):
            time.sleep(0.1)
            order.append("reply")

    thread = threading.Thread(target=answer)
    thread.start()
    while not services.under_way.count:
        time.sleep(0.001)
    end(services, SimpleNamespace(stop=lambda: order.append("votes")))
    thread.join()
    assert order == ["reply", "votes", "jobs"]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    made = Services(Settings(tmp_path / "home", tmp_path / "assets", preload=False))
    yield made
    if made._voting is not None:
        made.voting.store.close()


def asked(services: Services, path: str) -> tuple[int, dict]:
    client = TestClient(Starlette(routes=health.routes(services, lambda: 3)))
    answer = client.get(path)
    return answer.status_code, answer.json()


def test_a_balancer_learns_that_the_app_lives_and_is_ready(services: Services):
    assert asked(services, "/healthz") == (200, {"status": "ok"})
    told = {"status": "ready", "database": "ok", "models": "on first use", "answering": 0, "waiting": 3}
    assert asked(services, "/readyz") == (200, told)


@pytest.mark.parametrize(("state", "code"), [("loading", 503), ("failed", 503), ("loaded", 200)])
def test_it_is_ready_when_its_models_are(services: Services, state: str, code: int):
    services.loading_state = state
    status, told = asked(services, "/readyz")
    assert (status, told["models"]) == (code, state)


def test_it_is_not_ready_without_a_database_and_says_no_more(tmp_path: Path):
    url = "postgresql://ann:hunter2hunter2@127.0.0.1:9/arena"
    status, told = asked(Services(Settings(tmp_path, tmp_path, database=url)), "/readyz")
    assert (status, told["database"]) == (503, "unreachable")
    assert "hunter2" not in json.dumps(told)


def test_it_sends_people_elsewhere_when_it_is_about_to_end(services: Services):
    services.under_way.close(0, 0)
    assert asked(services, "/readyz")[0] == 503
    assert asked(services, "/healthz")[0] == 200


def lines(written: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def json_lines(**environment: str) -> tuple[io.StringIO, logs.JsonLines]:
    written = io.StringIO()
    return written, logs.JsonLines(written, "info", logs.Scrubber(environment))


def test_what_is_printed_becomes_one_object_a_line():
    written, stream = json_lines()
    print("Loading", "bases", file=stream)
    stream.write("half ")
    stream.write("a line\n\n")
    assert [(each["event"], each["message"]) for each in lines(written)] == [
        ("printed", "Loading bases"),
        ("printed", "half a line"),
    ]


def test_lines_of_two_threads_do_not_mix():
    written, stream = json_lines()
    ready = threading.Barrier(2)

    def tell(word: str) -> None:
        for _ in range(50):
            stream.write(word)
            ready.wait(60)
            stream.write(f" {word}\n")

    threads = [threading.Thread(target=tell, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each["message"] for each in lines(written)} == {"one one", "two two"}


def test_a_traceback_is_one_object_without_what_the_exception_said():
    written, stream = json_lines()
    try:
        raise ValueError("my secret diary")
    except ValueError as error:
        traceback.print_exception(error, file=stream)
    print("after", file=stream)
    failed, after = lines(written)
    assert (failed["event"], failed["message"]) == ("exception", "ValueError")
    assert failed["frames"][-1].endswith("test_a_traceback_is_one_object_without_what_the_exception_said")
    assert "diary" not in written.getvalue()
    assert after["message"] == "after"


@pytest.mark.parametrize(
    "text",
    [
        "hf_abcdefghijklmnop",
        "Authorization: Bearer abc.def",
        "GET /?__sign=eyJhbGciOi.abc from 93.184.216.34",
        "2001:db8::ff00:42:8329 asked",
        "my-own-secret-value",
        f"r1.{'a' * 24}.{'0' * 64}",
    ],
)
def test_keys_and_addresses_do_not_reach_the_log(text: str):
    scrubbed = logs.Scrubber({"WAVALIGN_SECRET": "my-own-secret-value"})(text)
    assert logs.HIDDEN in scrubbed
    for part in ("abcdefghijklmnop", "abc.def", "eyJ", "93.184", "2001:db8", "my-own", "r1.a"):
        assert part not in scrubbed


@pytest.mark.parametrize("text", ["at http://127.0.0.1:7860/", "12:30:05", "torch 2.9.1", "step 10/20, loss 0.5"])
def test_what_is_no_secret_stays(text: str):
    assert logs.Scrubber({})(text) == text


def test_the_log_is_json_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logs.configure({})
    logs.say("plain", event="started")
    logs.configure({"WAVALIGN_LOG": "json"})
    logs.say("told", event="started", place="space")
    first, second = written.getvalue().splitlines()
    assert first == "plain"
    told = json.loads(second)
    assert (told["event"], told["message"], told["place"]) == ("started", "told", "space")
    with pytest.raises(ValueError, match="WAVALIGN_LOG"):
        logs.configure({"WAVALIGN_LOG": "xml"})
