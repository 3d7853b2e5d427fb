"""What the Checkpoints page asks of the server, who may ask it, and what happens when memory runs out in a reply."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import torch

from app.conversation import Asked, Conversation
from app.pages.checkpoints_desk import CheckpointsDesk
from app.services import Services
from app.settings import Settings
from app.speakers import LoadedSpeakers
from tests import tiny
from tests.models.chat_service import b64, chat_service, tone, wav, whole
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.protocol import GenerationError, Request, Sampling

ASKED = Dialogue((Turn("user", text="what is two plus two"),))
SHORT = Sampling(temperature=0.0, max_tokens=40, max_seconds=0.5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    base = tiny.make_tiny_checkpoint(folder / "assets" / "closedtalk-base")
    tiny.make_tiny_adapter(folder / "assets" / "tuned", base)
    tiny.make_tiny_checkpoint(folder / "elsewhere" / "second", seed=5)
    return folder


@pytest.fixture
def services(folders: Path, tmp_path: Path) -> Services:
    return Services(Settings(tmp_path / "home", folders / "assets"))


@pytest.fixture
def desk(services: Services) -> CheckpointsDesk:
    return CheckpointsDesk(services)


def lines(desk: CheckpointsDesk) -> dict[str, dict]:
    return {line["name"]: line for line in desk.answer({"do": "watch"})["checkpoints"]}


def until(condition, seconds: float = 120.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("It did not happen in time.")


def test_a_checkpoint_is_looked_at_added_loaded_unloaded_removed(desk: CheckpointsDesk, folders: Path) -> None:
    wish = {"kind": "local", "source": str(folders / "elsewhere" / "second"), "arena": True}
    looked = desk.answer({"do": "look", **wish})
    assert looked["name"] == "second"
    assert ["Layout", "interleaved"] in looked["rows"]
    assert "second" not in lines(desk)
    assert "Talk and the Arena" in desk.answer({"do": "add", **wish})["said"]
    assert lines(desk)["second"]["state"] == "not loaded"
    assert desk.answer({"do": "load", "name": "second"}) == {}
    until(lambda: lines(desk)["second"]["state"] == "loaded")
    assert lines(desk)["second"]["memory"].endswith("B")
    assert "out of memory" in desk.answer({"do": "unload", "name": "second"})["said"]
    assert lines(desk)["second"]["state"] == "not loaded"
    assert "off the list" in desk.answer({"do": "remove", "name": "second"})["said"]
    assert "second" not in lines(desk)


def test_what_cannot_be_loaded_stays_on_the_page_with_its_reason(desk: CheckpointsDesk, services: Services) -> None:
    folder = services.settings.home / "checkpoints" / "broken"
    tiny.make_tiny_adapter(folder, services.settings.assets / "closedtalk-base")
    (folder / "adapter_model.safetensors").unlink()
    desk.answer({"do": "load", "name": "broken"})
    assert "is missing" in until(lambda: lines(desk)["broken"]["trouble"])
    (folder / "adapter_config.json").write_text("{")
    assert lines(desk)["broken"]["kind"] == "broken"


ODD = [
    None,
    "look",
    {},
    {"do": "__class__"},
    {"do": ["look"]},
    {"do": "load"},
    {"do": "load", "name": "../tuned"},
    {"do": "load", "name": {"a": 1}},
    {"do": "card", "name": "nobody"},
    {"do": "look", "source": ["a"]},
    {"do": "look", "source": "/tmp\0x"},
    {"do": "look", "kind": "remote", "url": "javascript:alert(1)", "model": "m"},
    {"do": "add", "kind": "remote", "url": "http://a/v1", "model": "m", "sample_rate": "many"},
    {"do": "add", "kind": "remote", "url": "http://a/v1", "model": "m", "name": "../x"},
]


@pytest.mark.parametrize("message", ODD, ids=str)
def test_what_the_page_does_not_send_is_refused_in_one_sentence(
    desk: CheckpointsDesk, services: Services, capsys: pytest.CaptureFixture, message: object
) -> None:
    answer = desk.answer(message)
    assert set(answer) == {"error"}
    assert "\n" not in answer["error"]
    assert "Traceback" not in capsys.readouterr().err
    assert not (services.settings.home / "checkpoints.yaml").exists()


def test_a_promoted_adapter_says_where_it_comes_from(desk: CheckpointsDesk, services: Services) -> None:
    folder = services.settings.home / "checkpoints" / "mine"
    tiny.make_tiny_adapter(folder, services.settings.assets / "closedtalk-base")
    rate = {"value": 0.5, "low": 0.4, "high": 0.6}
    better = {"value": 0.6, "low": 0.5, "high": 0.7}
    measured = {"prompts": 40, "seed": 11, "closedtalk-base": {"right": rate}, "mine": {"right": better}}
    told = {"promoted_from": "demo", "start": "closedtalk-base", "data": {"source": "closedtalk"}, "measured": measured}
    (folder / "provenance.json").write_text(json.dumps(told))
    (folder / "README.md").write_text("---\nbase_model: closedtalk-base\n---\n# mine\n\nTrained by demo.\n")
    facts = dict(lines(desk)["mine"]["facts"])
    assert facts["Run"] == "demo"
    assert facts["Data"] == "closedtalk"
    assert facts["Right answers"] == "50 → 60 % (50–70)"
    assert facts["Measured on"] == "40 held-out questions"
    card = desk.answer({"do": "card", "name": "mine"})
    assert card["card"] == "# mine\n\nTrained by demo."
    assert "promoted_from" in card["provenance"]


def test_memory_that_runs_out_in_a_reply_ends_that_reply_only(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = services.answering(["closedtalk-base"]).model
    request = [Request(ASKED, "closedtalk-base", SHORT)]
    before = model.reply_many(request)
    working = InterleavedModel.reply_many

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(InterleavedModel, "reply_many", full)  # the GPU at its edge
    with pytest.raises(GenerationError, match="Memory ran out while closedtalk-base answered"):
        model.reply_many(request)
    assert services.registry.bases.all() == ()
    monkeypatch.setattr(InterleavedModel, "reply_many", working)
    assert model.reply_many(request)[0].tokens == before[0].tokens


def test_a_base_that_answers_is_not_unloaded(desk: CheckpointsDesk, services: Services) -> None:
    model = services.answering(["closedtalk-base"]).model
    stream = model.stream_many([Request(ASKED, "closedtalk-base", SHORT)])
    next(stream)
    assert lines(desk)["closedtalk-base"]["state"] == "answering"
    assert "answering right now" in desk.answer({"do": "unload", "name": "closedtalk-base"})["error"]
    stream.close()
    assert "error" not in desk.answer({"do": "unload", "name": "closedtalk-base"})


def far(desk: CheckpointsDesk, url: str, arena: bool) -> None:
    answer = desk.answer({"do": "add", "kind": "remote", "url": url, "model": "m", "name": "far", "arena": arena})
    assert "error" not in answer


def test_a_service_stands_beside_a_model_in_talk(desk: CheckpointsDesk, services: Services) -> None:
    answer = whole({"content": "It is four.", "audio": {"data": b64(wav(tone()))}})
    asked = Asked(Turn("user", text="what is two plus two"), typed="What is 2 + 2?")
    with chat_service(lambda number, body: answer) as service:
        far(desk, service.url, False)
        assert ("far (remote)", "far") in services.labels()
        names = ("closedtalk-base", "far")
        answering = services.answering(names)
        assert answering.knows_more == {"far"}
        run = answering.run(Conversation(names), asked, SHORT, threading.Event())
        while True:
            try:
                next(run)
            except StopIteration as end:
                exchange = end.value
                break
    assert exchange.answers[1].reply.text == "It is four."
    assert exchange.answers[1].figures.word_error_rate is None
    assert service.requests[0]["messages"][-1]["content"] == "What is 2 + 2?"
    assert "far" not in services.names()  # it cannot be trained


def test_a_service_meets_others_in_the_arena_only_when_the_host_says_so(
    desk: CheckpointsDesk, services: Services
) -> None:
    speakers = LoadedSpeakers(services)
    answer = whole({"content": "It is four.", "audio": {"data": b64(wav(tone()))}})
    with chat_service(lambda number, body: answer) as service:
        far(desk, service.url, False)
        assert speakers.pairs() == [("closedtalk-base", "tuned")]
        services.registry.remove("far")
        far(desk, service.url, True)
        assert ("closedtalk-base", "far") in speakers.pairs()
        names = ("far", "closedtalk-base")
        settings = tuple(speakers.sampling(name, 3) for name in names)
        replies = speakers.reply(names, (ASKED, ASKED), settings, None)
        assert replies[0].text == "It is four."
        assert isinstance(replies[1].waveform, Waveform)
        assert speakers.revision("far") != speakers.revision("closedtalk-base")
        assert "word_error_rate" not in speakers.measure(replies[0])
