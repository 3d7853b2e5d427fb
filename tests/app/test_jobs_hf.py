"""The launcher for rented hardware, against Hugging Face's API in this process."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from app.jobs.job import AT_ONCE, GENTLY, Job, JobError
from app.jobs.launchers import hf_jobs, hf_worker
from app.jobs.launchers.hf_jobs import HfJobs, price
from app.jobs.queue import Queue
from app.store import open_store
from tests.app.fake_hf_jobs import FakeJobs, fake_hf_jobs
from tests.app.jobs_bench import straight
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import save_config


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    with fake_hf_jobs() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hf_jobs, "_CODE", ("requirements.txt",))  # the program, in small
        monkeypatch.setattr(hf_jobs, "_POLL_SECONDS", 0.0)
        yield hub


@pytest.fixture
def api(hub: FakeJobs) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_test")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    store = open_store(tmp_path)
    folder = tmp_path / "runs" / "rented-001"
    (folder / "attempts" / "001").mkdir(parents=True)
    save_config(TrainConfig(name="rented", base="mine"), folder / "config.yaml")
    base = tmp_path / "checkpoints" / "mine"
    base.mkdir(parents=True)
    (base / "interleaved.json").write_text("{}")
    queue = Queue(store)
    queue.add("rented-001", folder, launcher="hf-jobs", settings={"minutes": 30.0, "flavor": "l4x1"})
    yield queue.claim_remote("here")
    store.close()


def submitted(job: Job, api: HfApi) -> Job:
    handle = HfJobs(api).submit(job, job.folder.parents[1], job.folder.parents[1] / "assets")
    return Job(**{**{name: getattr(job, name) for name in Job.__dataclass_fields__}, "handle": handle})


def test_the_price_is_a_range_and_bounds_the_time(api: HfApi) -> None:
    cost = price("l4x1", 30, api)
    # 0.013333 $ a minute: 34 minutes at least, ceil(36 + 12) = 48 at most.
    assert (cost.low, cost.high, cost.timeout_minutes) == pytest.approx((0.4533, 0.64, 48), abs=1e-3)
    assert cost.words("l4x1", 30).startswith("30 minutes of training on l4x1 cost $0.45 to $0.64")
    with pytest.raises(JobError, match="there is: cpu-basic, l4x1"):
        price("tpu", 30, api)


def test_a_job_is_sent_with_program_run_and_base_and_a_timeout(job: Job, api: HfApi, hub: FakeJobs) -> None:
    sent = submitted(job, api)
    assert hub.private
    assert {"code/requirements.txt", "runs/rented-001/config.yaml", "home/checkpoints/mine/interleaved.json"} <= set(
        hub.files
    )
    (spec,) = hub.jobs
    assert spec["flavor"] == "l4x1"
    assert spec["timeoutSeconds"] == 48 * 60
    assert spec["secrets"] == {"HF_TOKEN": "hf_test"}
    assert "python -m app.jobs.launchers.hf_worker ann/wavalign-runs rented-001 1" in " ".join(spec["command"])
    assert "hf_test" not in json.dumps({**spec, "secrets": None})
    assert sent.handle["id"] == "job-1"


def test_without_a_budget_nothing_is_rented(job: Job, api: HfApi, hub: FakeJobs) -> None:
    endless = Job(**{**{name: getattr(job, name) for name in Job.__dataclass_fields__}, "settings": {}})
    with pytest.raises(JobError, match="needs a budget in minutes"):
        submitted(endless, api)
    assert hub.jobs == []


def test_stages_become_states_and_the_run_comes_back(job: Job, api: HfApi, hub: FakeJobs) -> None:
    sent, launcher = submitted(job, api), HfJobs(api)
    assert launcher.poll(sent).state == "starting"
    hub.stage = "RUNNING"
    assert launcher.poll(sent).reason == "On l4x1, at most $0.64."
    hub.files["runs/rented-001/metrics.jsonl"] = b'{"step": 1}\n'
    launcher.fetch(sent, again=True)
    assert (job.folder / "metrics.jsonl").read_bytes() == b'{"step": 1}\n'
    hub.files["runs/rented-001/attempts/001/outcome.json"] = b'{"state": "completed", "reason": "done"}'
    hub.stage = "COMPLETED"
    assert launcher.poll(sent) == hf_jobs.Polled("completed", "done")


def test_an_end_without_a_result_says_what_hugging_face_says(job: Job, api: HfApi, hub: FakeJobs) -> None:
    sent = submitted(job, api)
    hub.stage, hub.message = "ERROR", "Job timeout"
    polled = HfJobs(api).poll(sent)
    assert polled.state == "crashed"
    assert "Job timeout" in polled.reason


def test_stops_gently_through_the_repository_and_at_once_through_the_api(job: Job, api: HfApi, hub: FakeJobs) -> None:
    sent = submitted(job, api)
    HfJobs(api).stop(sent, GENTLY)
    assert "asked/rented-001-1.json" in hub.files
    assert hub.cancelled == []
    HfJobs(api).stop(sent, AT_ONCE)
    assert hub.cancelled == ["job-1"]


def test_the_worker_supervises_and_sends_everything_back(
    job: Job, api: HfApi, hub: FakeJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    work = tmp_path / "work"
    folder = work / "runs" / "rented-001"
    folder.mkdir(parents=True)
    monkeypatch.setattr(hf_worker, "HfApi", lambda: api)
    monkeypatch.setattr(
        hf_worker,
        "train_command",
        lambda folder, *_: [sys.executable, "-m", "tests.app.toy_trainer", str(folder), "--steps", "6"],
    )
    assert hf_worker.main(["ann/wavalign-runs", "rented-001", "1", "tag-of-test", "--work", str(work)]) == 0
    assert json.loads(hub.files["runs/rented-001/attempts/001/outcome.json"])["state"] == "completed"
    assert hub.files["runs/rented-001/weights"].decode() == straight(6)
