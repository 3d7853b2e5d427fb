"""The Train page's messages: starting, watching, listening, comparing, promoting, and what is refused."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from app.jobs.job import JobError
from app.jobs.jobs import Jobs
from app.pages.train_desk import TrainDesk
from app.services import Services
from app.settings import Settings
from app.store import open_store
from tests.app.assets import make_tiny_assets
from wavalign.models.registry import Registry
from wavalign.training.journal import Journal


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture
def desk(tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch):
    """A desk whose jobs wait: nothing is started here."""
    monkeypatch.delenv("SPACE_ID", raising=False)
    services = Services(Settings(tmp_path, assets, preload=False))
    store = open_store(tmp_path)
    services._jobs = Jobs(store, tmp_path, assets)
    services._jobs.look = lambda: None
    yield TrainDesk(services)
    store.close()


def form_of(desk: TrainDesk) -> dict:
    return desk.answer({"do": "hello"})["form"]


def started(desk: TrainDesk, **changes: str) -> str:
    plain = form_of(desk)["start"]["plain"]
    return desk.answer({"do": "start", "plain": plain, "changes": changes, "recipe": "wavalign"})["job"]


def finished(desk: TrainDesk, id: str, assets: Path, steps: int = 3) -> Path:
    """The run's folder as a trainer leaves it."""
    job = desk.jobs.queue.get(id)
    journal = Journal(job.folder)
    for step in range(steps + 1):
        rewards = {"reward": 2.0 + step / 10, "step_time": 1.0} if step else {}
        journal.metrics(step, {**rewards, "eval/semantic/accuracy": 0.5 + step / 100, "eval/acoustic/wer": 0.1})
    for step in (0, steps):
        place = job.folder / "samples" / f"step-{step}"
        place.mkdir(parents=True)
        (place / "00.wav").write_bytes(b"RIFF" + bytes([step]))
        said = {"file": "00.wav", "id": "p1", "question": "what is one plus one", "text": f"two {step}", "seconds": 1.0}
        (place / "samples.jsonl").write_text(json.dumps(said) + "\n")
    shutil.copytree(assets / "closedtalk-tuned", job.folder / "adapter")
    made = {"start": "closedtalk-base", "base": "closedtalk-base", "step": steps, "seed": 0}
    (job.folder / "adapter" / "provenance.json").write_text(json.dumps(made))
    journal.result("completed", "all steps are done", steps)
    desk.jobs.queue.move(id, ["queued"], "completed", attempt=1)
    return job.folder


def test_hello_describes_form_and_panels(desk: TrainDesk) -> None:
    answer = desk.answer({"do": "hello"})
    form = answer["form"]
    assert form["bases"] == ["closedtalk-base", "closedtalk-tuned"]
    assert {each["name"] for each in form["recipes"]} >= {"wavalign", "sft", "alpo"}
    assert all(each["about"] for each in form["recipes"])
    assert form["start"]["values"]["base"] == "closedtalk-base"
    assert len(answer["panels"]) > 8
    json.dumps(answer)


def test_what_is_wrong_is_told_beside_its_field_and_nothing_is_made(desk: TrainDesk, tmp_path: Path) -> None:
    plain = form_of(desk)["start"]["plain"]
    changes = {"steps": "0", "base": "nowhere"}
    assert set(desk.answer({"do": "check", "plain": plain, "changes": changes})["problems"]) == {"steps"}
    changes["steps"] = "5"
    answer = desk.answer({"do": "start", "plain": plain, "changes": changes, "minutes": "soon"})
    assert answer["problems"]["base"].startswith('There is no checkpoint "nowhere"; there are: closedtalk-base')
    assert answer["problems"]["minutes"] == "A number is needed, got soon."
    answer = desk.answer({"do": "start", "plain": plain, "changes": {}, "patience": "-1", "processes": "1.5"})
    assert answer["problems"] == {
        "patience": "At least 0 is needed, got -1.",
        "processes": "A whole number is needed, got 1.5.",
    }
    absent = {"data.source": "jsonl", "data.path": "/absent.jsonl"}
    assert desk.answer({"do": "start", "plain": plain, "changes": absent})["problems"]["data.path"]
    votes = desk.answer({"do": "start", "plain": plain, "changes": {"data.source": "votes"}})["problems"]
    assert votes["data.source"].startswith("There are no votes that may be used yet.")
    assert desk.jobs.queue.jobs() == []
    assert not (tmp_path / "runs").exists()


def test_check_gives_yaml_and_command(desk: TrainDesk) -> None:
    plain = form_of(desk)["start"]["plain"]
    answer = desk.answer({"do": "check", "plain": plain, "changes": {"steps": "7"}, "recipe": "wavalign"})
    assert answer["problems"] == {}
    assert "steps: 7" in answer["yaml"]
    assert "python -m wavalign.train wavalign/recipes/wavalign.yaml" in answer["command"]
    assert " steps=7" in answer["command"]
    back = desk.answer({"do": "fill", "yaml": answer["yaml"]})
    assert back["values"]["steps"] == "7"
    assert desk.answer({"do": "fill", "yaml": "steps: 0"})["problems"]["steps"]


def test_memory_is_told_and_what_cannot_fit_is_refused(desk: TrainDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = form_of(desk)["start"]["plain"]
    told = desk.answer({"do": "check", "plain": plain, "changes": {}})["memory"]
    assert re.match(r"Memory: .* at most: weights .*, optimiser .*\. This (machine|GPU) has [0-9.]+ GB\.", told)
    monkeypatch.setattr("wavalign.models.memory.total_bytes", lambda device: 1000)
    answer = desk.answer({"do": "start", "plain": plain, "changes": {}})
    assert "for weights, gradients and optimiser alone, and the device has 1 kB." in answer["problems"]["memory"]
    assert desk.jobs.queue.jobs() == []


def test_a_job_is_watched_and_its_curves_are_sent_once(desk: TrainDesk, assets: Path) -> None:
    id = started(desk, steps="3")
    (line,) = desk.answer({"do": "watch"})["runs"]
    assert (line["state"], line["place"], line["steps"]) == ("queued", 1, 3)
    finished(desk, id, assets)
    shown = {"id": id, "colour": "#123456", "version": None}
    answer = desk.answer({"do": "watch", "shown": [shown]})
    (line,) = answer["runs"]
    assert (line["step"], line["promotable"], line["semantic"]) == (3, True, {"now": 53.0, "change": 3.0})
    curves = answer["curves"][id]
    assert curves["traces"]["reward"][0]["y"] == [2.1, 2.2, 2.3]
    shown["version"] = curves["version"]
    assert desk.answer({"do": "watch", "shown": [shown]})["curves"] == {}


def test_recordings_base_first_and_nothing_else_can_be_fetched(desk: TrainDesk, assets: Path) -> None:
    id = started(desk)
    finished(desk, id, assets)
    grid = desk.answer({"do": "listen", "job": id})
    assert grid["steps"] == [0, 3]
    assert [cell["text"] for cell in grid["rows"][0]["cells"]] == ["two 0", "two 3"]
    heard = desk.answer({"do": "sound", "job": id, "step": 3, "file": "00.wav"})
    assert base64.b64decode(heard["wav"]) == b"RIFF\x03"
    for step, file in ((3, "../../config.yaml"), ("x", "00.wav"), (9, "00.wav"), (3, "samples.jsonl")):
        assert "error" in desk.answer({"do": "sound", "job": id, "step": step, "file": file})


def test_clone_compare_note_download_delete(desk: TrainDesk, assets: Path, tmp_path: Path) -> None:
    one = started(desk, steps="3")
    folder = finished(desk, one, assets)
    clone = desk.answer({"do": "clone", "job": one})
    changes = {"steps": "9", "optimiser.lr": "0.5"}
    other = desk.answer({"do": "start", "plain": clone["plain"], "changes": changes, "parent": one})["job"]
    assert desk.jobs.queue.get(other).parent == one
    rows = desk.answer({"do": "compare", "one": one, "other": other})["rows"]
    assert ["steps", "3", "9"] in rows
    assert ["optimiser.lr", "0.001", "0.5"] in rows
    desk.answer({"do": "note", "job": one, "text": "the good one"})
    assert desk.jobs.queue.get(one).notes == "the good one"
    (folder / "checkpoints" / "step-3").mkdir(parents=True)
    (folder / "checkpoints" / "step-3" / "optimiser.pt").write_bytes(b"large")
    (folder / ".heartbeat.json.tmp").write_text("half")
    packed = desk.answer({"do": "download", "job": one})
    assert packed["name"] == "wavalign-001.zip"
    inside = zipfile.ZipFile(packed["path"]).namelist()
    assert {"wavalign-001/metrics.jsonl", "wavalign-001/samples/step-3/00.wav"} <= set(inside)
    assert not any(name.endswith(("optimiser.pt", ".tmp")) for name in inside)
    assert "2 recordings, the trained adapter" in desk.answer({"do": "contents", "job": one})["words"]
    desk.answer({"do": "delete", "job": one})
    assert not folder.exists()
    assert desk.answer({"do": "log", "job": one})["error"] == "That job is not there any more."
    assert desk.answer({"do": "stop", "job": other})["said"] == "Cancelled: it will not start."


def test_a_promoted_adapter_is_measured_and_there_without_a_restart(
    desk: TrainDesk, assets: Path, tmp_path: Path
) -> None:
    id = started(desk)
    finished(desk, id, assets)
    assert "letters, digits" in desk.answer({"do": "promote", "job": id, "name": "a b"})["error"]
    assert "already" in desk.answer({"do": "promote", "job": id, "name": "closedtalk-base"})["error"]
    desk.promotions.prompts = 2
    desk.promotions.begin(desk.jobs.queue.get(id), "mine").join(300)
    (line,) = desk.answer({"do": "watch"})["runs"]
    assert line["promotion"]["state"] == "done", line["promotion"]["words"]
    assert "mine is in Talk and in the Arena. On 2 held-out questions: right answers" in line["promotion"]["words"]
    assert line["promoted"] == "mine"
    assert "mine" in desk.services.names()
    provenance = Registry(assets, tmp_path).checkpoint("mine").provenance
    assert provenance["promoted_from"] == "wavalign-001"
    assert set(provenance["measured"]) == {"prompts", "seed", "closedtalk-base", "mine"}
    assert not (tmp_path / "jobs" / "promoting" / id).exists()


def test_an_adapter_that_does_not_load_is_not_registered(desk: TrainDesk, assets: Path, tmp_path: Path) -> None:
    id = started(desk)
    folder = finished(desk, id, assets)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"broken")
    desk.promotions.begin(desk.jobs.queue.get(id), "mine").join(300)
    assert desk.promotions.of(id).state == "failed"
    assert "mine" not in desk.services.names()
    shutil.rmtree(folder / "adapter")
    with pytest.raises(JobError, match="no trained adapter"):
        desk.promotions.begin(desk.jobs.queue.get(id), "mine")


@pytest.mark.parametrize(
    "message", [None, {}, {"do": "nothing"}, {"do": "stop"}, {"do": "start"}, {"do": "start", "plain": 1}]
)
def test_odd_messages_get_one_sentence(desk: TrainDesk, message: object) -> None:
    assert set(desk.answer(message)) == {"error"}


def test_a_form_cannot_name_a_program_to_run(desk: TrainDesk) -> None:
    plain = form_of(desk)["start"]["plain"]
    message = {"do": "start", "plain": plain, "changes": {}, "settings": {"command": [sys.executable]}, "command": "x"}
    job = desk.jobs.queue.get(desk.answer(message)["job"])
    assert job.settings == {"stop_on_alarm": False, "patience": 0}
