"""Evaluations as jobs, and what the Evaluate page's server side takes and refuses."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from app.evaluations import Evaluations, is_evaluation
from app.jobs.job import JobError
from app.pages.evaluate_desk import EvaluateDesk
from app.pages.train_desk import TrainDesk
from app.services import Services
from app.settings import Settings
from evaluation.assess_plan import make_plan, read_plan
from tests.evaluation.shipped import make_assets
from tests.tiny import make_tiny_adapter

ASKED = {"do": "start", "checkpoints": ["closedtalk-base", "tuned"], "tasks": ["closedtalk"], "limit": "2"}


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    folder = make_assets(tmp_path_factory.mktemp("assets"))
    make_tiny_adapter(folder / "tuned", folder / "closedtalk-base")
    return folder


@pytest.fixture
def services(assets, tmp_path, monkeypatch) -> Services:
    """Nothing is dispatched: what is queued stays queued."""
    made = Services(Settings(home=tmp_path, assets=assets))
    monkeypatch.setattr(made.jobs, "look", lambda: None)
    return made


def test_an_evaluation_is_a_job_of_the_queue_and_not_a_run_of_training(services, tmp_path):
    desk = EvaluateDesk(services)
    answer = desk.answer(ASKED)
    job = services.jobs.queue.get(answer["job"])
    assert is_evaluation(job)
    assert job.state == "queued"
    assert job.folder.parent == tmp_path / "evaluations"
    assert job.settings["command"][:4] == [sys.executable, "-m", "evaluation.run", "compare"]
    plan, _ = read_plan(job.folder)
    assert plan == make_plan(checkpoints=("closedtalk-base", "tuned"), limit=2)
    (line,) = desk.answer({"do": "watch"})["runs"]
    assert line["words"] == "tuned against closedtalk-base on closedtalk"
    assert line["reason"] == "Waits for the device."
    assert TrainDesk(services).answer({"do": "watch"})["runs"] == []
    assert desk.answer({"do": "stop", "job": job.id})["said"] == "Cancelled: it will not start."
    assert "is deleted" in desk.answer({"do": "delete", "job": job.id})["said"]
    assert not job.folder.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checkpoints": ["closedtalk-base"]}, "at least one checkpoint to compare"),
        ({"checkpoints": ["closedtalk-base", "gone"]}, 'no checkpoint "gone"'),
        ({"checkpoints": "closedtalk-base"}, "a list of names"),
        ({"tasks": ["nothing"]}, 'there is no task "nothing"'),
        ({"tasks": []}, "at least one task"),
        ({"tasks": ["vocalbench-knowledge"]}, "is not shipped"),
        ({"limit": "many"}, "a number is needed"),
        ({"limit": "0"}, "limit"),
        ({"samples": "1000"}, "samples"),
        ({"judge_url": "file:///etc/passwd", "judge_model": "m"}, "must start with http"),
        ({"judge_url": "http://localhost"}, "both an address and a model"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_leaves_nothing(services, tmp_path, change, said):
    answer = EvaluateDesk(services).answer(ASKED | change)
    assert said in answer["error"]
    assert services.jobs.queue.jobs() == []
    assert not list((tmp_path / "evaluations").glob("*"))


def test_messages_about_other_jobs_and_other_files_are_refused(services, tmp_path):
    desk = EvaluateDesk(services)
    other = services.jobs.queue.add("run", tmp_path / "runs" / "run")
    assert desk.answer({"do": "stop", "job": other.id})["error"] == "That is not an evaluation."
    assert "error" in desk.answer({"do": "explode"})
    assert "error" in desk.answer([])
    job = services.jobs.queue.get(desk.answer(ASKED)["job"])
    (tmp_path / "secret.wav").write_bytes(b"x")
    for path in ("../../secret.wav", "sounds/../../../secret.wav", "/etc/passwd", "plan.json"):
        assert "not there any more" in desk.answer({"do": "sound", "job": job.id, "path": path})["error"]
    assert "no report yet" in desk.answer({"do": "report", "job": job.id})["error"]
    assert "no such report" in desk.answer({"do": "download", "job": job.id, "what": "../plan.json"})["error"]
    shipped = desk.answer({"do": "card", "job": job.id, "checkpoint": "tuned"})["error"]
    assert "not an adapter of yours" in shipped


@pytest.mark.slow
def test_it_runs_detached_and_ends_with_a_report(assets, tmp_path):
    services = Services(Settings(home=tmp_path, assets=assets))
    evaluations = Evaluations(services.jobs, tmp_path, assets)
    job = evaluations.start(make_plan(checkpoints=("closedtalk-base", "tuned"), dnsmos=False))
    deadline = time.monotonic() + 400
    while not services.jobs.queue.get(job.id).is_final:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    ended = services.jobs.queue.get(job.id)
    assert (ended.state, ended.reason) == ("completed", None)
    desk = EvaluateDesk(services)
    assert 'class="ev"' in desk.answer({"do": "report", "job": job.id})["html"]
    assert desk.answer({"do": "watch"})["runs"][0]["report"]
    assert Path(desk.answer({"do": "download", "job": job.id, "what": "html"})["path"]).is_file()
    with pytest.raises(JobError, match="not an adapter of yours"):
        evaluations.write_card(ended, "tuned")
