"""A GPU that is lent for one call at a time, against a module that stands for the host's own."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import gradio as gr
import pytest

from app import lending
from app.battles import BattleError
from app.borrowing import BorrowError, Gpu
from app.place import Place
from app.services import Services
from app.settings import Settings
from app.speakers import LoadedSpeakers
from tests.app.assets import make_tiny_assets
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import CheckpointError, Request, Sampling

PAIR = ("closedtalk-base", "closedtalk-tuned")


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    return make_tiny_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture
def calls(borrowed_calls: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lending, "_gpu", None)
    return borrowed_calls


@pytest.fixture
def services(calls: Path, assets: Path, tmp_path: Path) -> Services:
    return Services(Settings(tmp_path / "home", assets, place=Place(kind="zerogpu", space="ann/arena")))


def noted(calls: Path) -> list[dict]:
    return [json.loads(line) for line in calls.read_text().splitlines()]


def requests(names: tuple[str, ...] = PAIR, **sampling: object) -> list[Request]:
    question = Dialogue((Turn("user", text="what is one plus two"),))
    return [Request(question, name, Sampling(seed=3, max_seconds=2.0, **sampling)) for name in names]


def whole(stream: Generator) -> tuple[list, int]:
    """What a stream returns, and how often it told something before."""
    count = 0
    while True:
        try:
            next(stream)
            count += 1
        except StopIteration as end:
            return end.value, count


def test_both_sides_are_one_call_and_say_what_they_would_say_anyway(services: Services, calls: Path, assets: Path):
    model = services.answering(PAIR).model
    replies, chunks = whole(model.stream_many(requests()))
    plain = Services(Settings(services.settings.home, assets)).answering(PAIR).model.reply_many(requests())
    assert [reply.tokens for reply in replies] == [reply.tokens for reply in plain]
    assert [reply.waveform.to_wav_bytes() for reply in replies] == [reply.waveform.to_wav_bytes() for reply in plain]
    assert chunks > 1
    (call,) = noted(calls)
    assert call["task"] == "_replies"
    assert call["duration"] == 60
    assert call["pid"] != os.getpid()


def test_an_idle_worker_is_used_again(services: Services, calls: Path):
    model = services.answering(PAIR).model
    first, second = model.reply_many(requests()), model.reply_many(requests())
    assert [reply.tokens for reply in first] == [reply.tokens for reply in second]
    assert len({call["pid"] for call in noted(calls)}) == 1


def test_stop_reaches_the_worker_and_what_was_said_is_kept(services: Services, calls: Path):
    model = services.answering(PAIR).model
    stop = threading.Event()
    stream = model.stream_many(requests(temperature=0.0), stop)
    next(stream)
    stop.set()
    replies, _ = whole(stream)
    assert len(replies) == 2
    assert noted(calls)[0]["end"] == "end"


def test_a_visitor_who_leaves_gives_the_gpu_back(services: Services, calls: Path):
    stream = services.answering(PAIR).model.stream_many(requests())
    next(stream)
    stream.close()
    assert noted(calls)[0]["end"] == "closed"
    assert services.answering(PAIR).model.reply_many(requests())  # and the next is answered


def test_what_is_wrong_with_a_checkpoint_is_still_told_in_its_words(services: Services, calls: Path):
    services.answering(PAIR)
    with pytest.raises(CheckpointError, match="nobody"):
        list(services.gpu.stream_many(("nobody",), requests(("nobody",))))


def test_a_call_that_takes_too_long_is_a_sentence(services: Services, calls: Path):
    gpu = Gpu(services.registry, 60)
    with pytest.raises(BorrowError, match="taken back: GPU task aborted") as caught:
        gpu.work("time:sleep", (30,), 1)
    assert caught.value.aborted


def test_work_there_gives_back_what_it_made(services: Services, calls: Path):
    gpu = Gpu(services.registry, 60)
    assert gpu.work("os:getpid", (), 20) != os.getpid()
    assert noted(calls)[0]["duration"] == 20


def test_a_call_within_a_call_is_refused_by_the_host(services: Services, calls: Path):
    gpu = Gpu(services.registry, 60)
    with pytest.raises(BorrowError, match="RuntimeError"):
        gpu.work("tests.app.test_borrowing:nested", (), 20)


def nested() -> None:
    lending.here().work("os:getpid", (), 10)


def test_a_host_that_lends_nothing_is_told_to_the_rater_without_a_name(
    services: Services, calls: Path, monkeypatch: pytest.MonkeyPatch
):
    services.answering(PAIR)

    def refused(*_: object) -> Iterator[None]:
        raise gr.Error("You have exceeded your quota. <a href='x'>Subscribe</a>", title="ZeroGPU quota exceeded")
        yield

    monkeypatch.setattr(services.gpu, "_replies", refused)
    dialogue = Dialogue((Turn("user", text="what is one plus two"),))
    settings = {"seed": 1, "max_seconds": 2.0}
    with pytest.raises(BattleError) as caught:
        LoadedSpeakers(services).reply(PAIR, (dialogue, dialogue), (settings, settings), None)
    assert caught.value.code == "gpu"
    assert str(caught.value) == "No GPU can be borrowed just now: You have exceeded your quota. Subscribe."


def test_questions_at_one_time_do_not_hear_each_others_stop(services: Services, calls: Path):
    model = services.answering(PAIR).model
    stop, told = threading.Event(), {}

    def ask(name: str, stop: threading.Event) -> None:
        told[name] = model.reply_many(requests(), stop)

    threads = [
        threading.Thread(target=ask, args=("stopped", stop)),
        threading.Thread(target=ask, args=("whole", threading.Event())),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert [reply.tokens for reply in told["whole"]] == [reply.tokens for reply in model.reply_many(requests())]
