"""Running an evaluation: same seeds for all, failures counted, nothing asked twice, a kill loses a batch at most."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.assess import Assessment, Place
from evaluation.assess_plan import Plan, PlanError, make_plan, read_plan
from evaluation.assess_records import REPLIES, Records, ReplyRecord
from evaluation.compare import read_comparison
from evaluation.tasks.protocol import TaskError
from tests.evaluation.shipped import make_assets
from tests.processes import processes
from tests.tiny import make_tiny_adapter
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.protocol import CheckpointError, GenerationError

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ("closedtalk-base", "tuned")


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    folder = make_assets(tmp_path_factory.mktemp("assets"))
    make_tiny_adapter(folder / "tuned", folder / "closedtalk-base")
    return folder


def plan(**changes: object) -> Plan:
    return make_plan(**({"checkpoints": NAMES, "dnsmos": False, "batch": 4} | changes))


def assess(assets: Path, work: Path, asked: Plan, retry: bool = False) -> Assessment:
    made = Assessment(asked, Place(work, assets), quiet=True)
    assert made.run(retry) == "completed"
    return made


def lines(work: Path) -> list[dict]:
    return [json.loads(line) for line in (work / REPLIES).read_text().splitlines()]


def test_every_checkpoint_answers_every_prompt_with_the_seed_of_that_prompt(assets, tmp_path):
    assess(assets, tmp_path, plan(samples=2))
    records = Records(tmp_path)
    assert len(records.replies) == 3 * 2 * 2  # prompts, samples, checkpoints
    for record in records.replies.values():
        twin = records.replies[record.task, NAMES[0], record.item, record.sample]
        other = records.replies[record.task, record.checkpoint, record.item, 1 - record.sample]
        assert record.seed == twin.seed
        assert record.seed != other.seed
        assert (tmp_path / record.sound).is_file()
        assert record.values["seconds"] > 0
    assert set(records.scores) == set(records.replies)
    assert {record.category for record in records.replies.values()} == {"opposites"}
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 12


def test_what_is_done_is_not_done_again_and_the_batch_size_changes_nothing(assets, tmp_path, monkeypatch):
    assess(assets, tmp_path / "one", plan(batch=1))
    assess(assets, tmp_path / "all", plan(batch=64))
    texts = [
        [(each["item"], each["checkpoint"], each["text"]) for each in lines(tmp_path / name)] for name in ("one", "all")
    ]
    assert sorted(texts[0]) == sorted(texts[1])
    monkeypatch.setattr(InterleavedModel, "reply_many", lambda *_: pytest.fail("It was asked again."))
    assess(assets, tmp_path / "one", plan(batch=1))


def test_a_line_that_a_kill_cut_is_made_anew(assets, tmp_path):
    assess(assets, tmp_path, plan())
    whole = (tmp_path / REPLIES).read_bytes()
    (tmp_path / REPLIES).write_bytes(whole[: len(whole) - 40])
    assert len(Records(tmp_path).replies) == 5
    assess(assets, tmp_path, plan())
    assert len(Records(tmp_path).replies) == 6
    texts = {(each.item, each.checkpoint): each.text for each in Records(tmp_path).replies.values()}
    before = [json.loads(line) for line in whole.decode().splitlines()]
    assert texts == {(each["item"], each["checkpoint"]): each["text"] for each in before}


def test_a_prompt_that_fails_is_counted_with_its_reason_and_tried_again_on_request(assets, tmp_path, monkeypatch):
    honest = InterleavedModel.reply_many

    def troubled(self, requests, stop=None):
        if any(request.dialogue.turns[-1].codes is None for request in requests):
            raise GenerationError("The prompt is too long.\nmore")
        return honest(self, requests, stop)

    monkeypatch.setattr(InterleavedModel, "reply_many", troubled)
    made = assess(assets, tmp_path, plan())
    failed = [record for record in made.records.replies.values() if record.error]
    assert failed
    assert len(failed) < 6  # the rest of the batch was answered
    assert {record.error for record in failed} == {"The prompt is too long."}
    assert json.loads((tmp_path / "progress.json").read_text())["failed"] == len(failed)
    monkeypatch.setattr(InterleavedModel, "reply_many", honest)
    again = assess(assets, tmp_path, plan())
    assert sum(bool(record.error) for record in again.records.replies.values()) == len(failed)
    again = assess(assets, tmp_path, plan(), retry=True)
    assert not any(record.error for record in again.records.replies.values())


def test_when_no_prompt_can_be_answered_it_says_so(assets, tmp_path, monkeypatch):
    def broken(self, requests, stop=None):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(InterleavedModel, "reply_many", broken)
    with pytest.raises(PlanError, match="No prompt could be answered: out of memory"):
        Assessment(plan(), Place(tmp_path, assets), quiet=True).run()


def test_a_folder_belongs_to_one_plan(assets, tmp_path):
    assess(assets, tmp_path, plan(limit=1))
    with pytest.raises(PlanError, match="another seed"):
        Assessment(plan(limit=1, seed=7), Place(tmp_path, assets), quiet=True)
    assert read_plan(tmp_path)[0] == plan(limit=1)


def test_what_cannot_be_run_is_one_sentence_before_anything_is_answered(assets, tmp_path):
    with pytest.raises(PlanError, match='there is no task "closedtalc"'):
        plan(tasks=("closedtalc",))
    with pytest.raises(PlanError, match="each checkpoint is named once"):
        plan(checkpoints=("tuned", "tuned"))
    with pytest.raises(PlanError, match=r"limit: .*greater than or equal to 1"):
        plan(limit=0)
    with pytest.raises(CheckpointError, match='no checkpoint "gone"'):
        Assessment(plan(checkpoints=("gone",)), Place(tmp_path / "a", assets), quiet=True)
    with pytest.raises(TaskError, match="is not shipped"):
        Assessment(plan(tasks=("vocalbench-knowledge",)), Place(tmp_path / "b", assets), quiet=True)


def test_the_last_line_about_a_reply_counts(tmp_path):
    records = Records(tmp_path)
    first = ReplyRecord("t", "c", "i", 0, "k", 1, error="no")
    records.add_replies([first])
    records.add_replies([replace(first, error="", text="yes")])
    assert Records(tmp_path).replies[first.key].text == "yes"


def figures(work: Path, assets: Path) -> dict:
    """What is reported, without the moment."""
    return read_comparison(work, assets) | {"created": ""}


def together(assets: Path, work: Path, asked: Plan, size: int) -> list[Assessment]:
    """One assessment in each of ``size`` processes."""
    made = [Assessment(asked, Place(work, assets), quiet=True, world=world) for world in processes(size)]
    for each in made:  # transformers does not load two models at a time
        each.registry = made[0].registry
    made[0].registry.load(list(NAMES))
    return made


def test_what_several_processes_find_is_what_one_finds(assets, tmp_path):
    one, three = tmp_path / "one", tmp_path / "three"
    asked = plan(samples=2, batch=2)
    assess(assets, one, asked)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(Assessment.run, together(assets, three, asked, 3))) == ["completed"] * 3
    for name in (REPLIES, "scores.jsonl", "summaries.json", "problems.json"):
        assert (three / name).read_bytes() == (one / name).read_bytes()
    assert figures(three, assets) == figures(one, assets)
    assert not list(three.glob("*.[0-9]*.jsonl"))


def test_a_request_to_stop_stops_all_processes(assets, tmp_path):
    made = together(assets, tmp_path, plan(), 2)
    (tmp_path / "control.json").write_text('{"stop": true}')
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(Assessment.run, made)) == ["stopped"] * 2
    assert not (tmp_path / "control.json").exists()


def compare(work: Path, *arguments: object, rank: int = 0, size: int = 1, port: int = 0) -> subprocess.Popen:
    """The command as a launcher starts it."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    words = [sys.executable, "-m", "evaluation.run", "compare", "--out", work, "--quiet", *arguments]
    return subprocess.Popen(
        list(map(str, words)),
        cwd=REPOSITORY,
        env=os.environ | {name: str(value) for name, value in place.items()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_killed_it_goes_on_in_two_processes_and_ends_as_if_nothing_had_happened(assets, tmp_path):
    work = tmp_path / "killed"
    where = ["--assets", assets, "--home", tmp_path / "home"]
    asked = ["--checkpoints", *NAMES, "--no-dnsmos", "--samples", "5", "--batch", "2"]
    process = compare(work, *where, *asked)
    deadline = time.monotonic() + 300
    while len(Records(work).replies) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = Records(work).replies
    assert len(before) < 30
    assert not (work / "report.json").exists()
    (work / REPLIES).rename(work / "replies.001.jsonl")  # as the second of several processes leaves them
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [compare(work, *where, rank=rank, size=2, port=port) for rank in range(2)]
    said = [each.communicate(timeout=300)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    after = Records(work).replies
    assert len(after) == 30
    assert not list(work.glob("replies.[0-9]*.jsonl"))
    assert all(after[key] == record for key, record in before.items())
    straight = Assessment(read_plan(work)[0], Place(tmp_path / "straight", assets), quiet=True)
    straight.run()
    texts = [{key: record.text for key, record in found.items()} for found in (after, straight.records.replies)]
    assert texts[0] == texts[1]
    assert figures(work, assets) == figures(tmp_path / "straight", assets)
    assert json.loads((work / "result.json").read_text())["status"] == "completed"
    report = (work / "report.html").read_text()
    assert 'src="http' not in report
    assert "<script" not in report
