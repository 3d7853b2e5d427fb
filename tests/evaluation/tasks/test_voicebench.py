from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evaluation.judges.rubrics import CORRECT, OPEN_ENDED
from evaluation.tasks.protocol import Scored, TaskError
from evaluation.tasks.registry import create
from evaluation.tasks.voicebench import FURTHER, SUBSETS
from evaluation.tasks.voicebench_summary import overall, summarised
from tests.evaluation.tasks.datasets import context, parquet, said, score_of, tone, voicebench, words_of
from tests.rewards.judge_server import Answer, judge_server

SCORERS = {name: subset.scorer for name, subset in (SUBSETS | FURTHER).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return voicebench(tmp_path_factory.mktemp("voicebench"))


@pytest.fixture(scope="module")
def kind_judge():
    """Gives 4 to open replies, and 1 to answers that name Shakespeare."""
    with judge_server(lambda n, body: score_of(_opinion(words_of(body)))) as endpoint:
        yield endpoint


def _opinion(words: str) -> int:
    if OPEN_ENDED.instruction in words:
        return 4
    return int("Shakespeare did" in words)


def items_of(task, category):
    return [item for item in task.items() if item.category == category]


def test_the_hubs_rows_become_spoken_prompts(folder, kind_judge):
    task = create("voicebench", context(kind_judge.url, voicebench=folder))
    items = task.items()
    assert list(dict.fromkeys(items.categories)) == list(SUBSETS)
    assert "sd-qa/usa/0" in items.ids
    assert "sd-qa/aus/0" not in items.ids
    assert [item.facts["topic"] for item in items_of(task, "mmsu")] == ["law", "physics"]
    assert [item.facts["topic"] for item in items_of(task, "bbh")] == ["sports_understanding", "hyperbaton"]
    (turn,) = items[0].dialogue.turns
    assert turn.speech.sample_rate == 16_000
    np.testing.assert_allclose(turn.speech.samples, tone().samples, atol=1e-4)
    assert items[0].facts["question"] == "name a colour"


def test_replies_are_scored_by_subset_and_the_nine_make_the_overall_score(folder, kind_judge):
    """Ratings 4 (80), SD-QA 100, MMSU 1 of 2 (50), OBQA 100, BBH 2 of 2, IFEval 1, 1, 1, 1, AdvBench 100."""
    task = create("voicebench", context(kind_judge.url, voicebench=folder))
    replies = {
        "sd-qa/usa/0": "Shakespeare did.",
        "mmsu/law/0": "The answer is B.",
        "mmsu/physics/0": "The answer is D.",
        "openbookqa/test/0": "A",
        "bbh/test/0": "Yes.",
        "bbh/test/1": "The answer is (B)",
        "ifeval/test/0": "Three words here",
        "advbench/test/0": "I'm sorry, no.",
    }
    pairs = [(item, said(replies.get(item.id, "red"))) for item in task.items()]
    scored = task.score(pairs)
    rows = [(item, each) for (item, _), each in zip(pairs, scored, strict=True)]
    figures = task.summary(rows)
    assert figures["mmsu"] == 50
    assert figures["alpacaeval_full"] == 4
    assert figures["ifeval/prompt_strict"] == 100
    assert figures["overall"] == pytest.approx((3 * 80 + 100 + 50 + 100 + 100 + 100 + 100) / 9)
    by_id = {item.id: each for item, each in rows}
    assert by_id["commoneval/test/0"].values["score"] == 0.8
    assert by_id["commoneval/test/0"].about["judge"] == "ears-1"
    assert by_id["commoneval/test/0"].about["prompt_hash"] == OPEN_ENDED.hash
    assert by_id["sd-qa/usa/0"].about["prompt_hash"] == CORRECT.hash
    assert all(set(each.values) == {info.name for info in task.metrics} for each in scored)
    assert by_id["mmsu/law/0"].values["rating"] is None
    assert not by_id["mmsu/law/0"].failed
    assert set(task.judges()) == {"rating", "correct"}


def test_a_part_needs_no_judge_and_no_other_files(tmp_path):
    parquet(tmp_path / "openbookqa" / "test-00000-of-00001.parquet", [{"prompt": "which?", "reference": "C"}] * 3)
    task = create("voicebench/openbookqa", context(voicebench=tmp_path))
    items = task.items()
    assert len(items) == 3
    assert task.judges() == {}
    assert task.name == "voicebench/openbookqa"
    (scored,) = task.score([(items[0], said("I would choose C", "i would choose d"))])
    assert (scored.values["correct"], scored.values["correct_heard"], scored.values["answered"]) == (1, 0, 1)


def test_a_reply_without_an_answer_is_guessed_the_same_way_at_every_run(tmp_path):
    parquet(tmp_path / "openbookqa" / "test.parquet", [{"prompt": "which?", "reference": "C"}] * 200)
    task = create("voicebench/openbookqa", context(voicebench=tmp_path))
    pairs = [(item, said("no idea")) for item in task.items()]
    scored = task.score(pairs)
    assert [s.values["correct"] for s in scored] == [s.values["correct"] for s in task.score(pairs)]
    right = sum(s.values["correct"] for s in scored)
    assert 30 <= right <= 70  # a quarter of 200
    assert {s.values["answered"] for s in scored} == {0.0}
    assert scored[0].about["guessed"]


def test_an_accent_of_sd_qa_is_a_part_of_its_own(folder, kind_judge):
    task = create("voicebench/sd-qa.aus", context(kind_judge.url, voicebench=folder))
    (item,) = task.items()
    assert item.category == "sd-qa.aus"
    assert item.facts["reference"] == "Jane Austen"
    (scored,) = task.score([(item, said("Charles Dickens"))])
    assert scored.values["correct"] == 0
    assert task.summary([(item, scored)]) == {"sd-qa.aus": 0}


def test_an_empty_reply_earns_the_lowest_score_without_a_question(folder):
    with judge_server(lambda n, body: score_of(5)) as endpoint:
        task = create("voicebench/commoneval", context(endpoint.url, voicebench=folder))
        scored = task.score([(item, said("  ")) for item in task.items()])
    assert [each.values["rating"] for each in scored] == [1, 1]
    assert endpoint.requests == []


def test_a_judge_that_fails_is_counted_as_failed_and_never_as_a_number(folder):
    with judge_server(lambda n, body: Answer(status=500)) as endpoint:
        task = create("voicebench/commoneval", context(endpoint.url, voicebench=folder))
        pairs = [(item, said("red")) for item in task.items()]
        scored = task.score(pairs)
    assert [each.values["rating"] for each in scored] == [None, None]
    assert scored[0].failed == {"rating": "status 500", "score": "status 500"}
    assert task.summary([(item, each) for (item, _), each in zip(pairs, scored, strict=True)]) == {}


def test_a_wrong_key_stops_the_task_with_a_sentence(folder):
    with judge_server(lambda n, body: Answer(status=401)) as endpoint:
        task = create("voicebench/commoneval", context(endpoint.url, voicebench=folder))
        with pytest.raises(TaskError, match="status 401") as error:
            task.score([(item, said("red")) for item in task.items()])
    assert "rewards." not in str(error.value)


def test_a_missing_judge_is_said_before_anything_is_answered(folder):
    with pytest.raises(TaskError, match="scored by a judge, and none was given"):
        create("voicebench", context(voicebench=folder)).items()


def test_an_instruction_that_cannot_be_checked_is_a_failure_and_not_a_zero(tmp_path):
    row = {"prompt": "x", "instruction_id_list": ["poetry:rhyme"], "kwargs": [{"num_words": None}]}
    parquet(tmp_path / "ifeval" / "test.parquet", [row])
    task = create("voicebench/ifeval", context(voicebench=tmp_path))
    (item,) = task.items()
    (scored,) = task.score([(item, said("roses"))])
    assert scored.values["score"] is None
    assert "poetry:rhyme" in scored.failed["prompt_strict"]
    assert task.summary([(item, scored)]) == {}


def test_the_leaderboards_first_and_last_rows_come_out():
    """github.com/MatthewCYM/VoiceBench, README: GPT-4o behind Whisper has 87.80 overall, Moshi 29.51."""
    names = list(SUBSETS)
    first = dict(zip(names, (4.80, 4.47, 4.62, 75.77, 81.69, 92.97, 87.20, 76.51, 98.27), strict=True))
    assert overall(first, SCORERS) == pytest.approx(87.80, abs=0.01)
    last = dict(zip(names, (2.01, 1.60, 1.30, 15.64, 24.04, 25.93, 47.40, 10.12, 44.23), strict=True))
    assert overall(last, SCORERS) == pytest.approx(29.51, abs=0.01)


def test_without_one_subset_there_is_no_overall_score():
    rows = {name: [Scored({"score": 1.0, "rating": 5.0})] for name in SUBSETS if name not in ("ifeval", "bbh")}
    figures = summarised(rows, SCORERS, tuple(SUBSETS))
    assert "overall" not in figures
    assert figures["wildvoice"] == 5
    assert figures["mmsu"] == 100


@pytest.mark.parametrize(
    ("name", "message"),
    [("voicebench/mtbench", 'no subset "mtbench"'), ("voicebench/sd-qa.fra", 'no subset "sd-qa.fra"')],
)
def test_an_unknown_part_is_refused(name, message):
    with pytest.raises(TaskError, match=message):
        create(name, context())


def test_missing_data_missing_splits_and_foreign_tables_are_said_in_words(tmp_path):
    with pytest.raises(TaskError, match="not shipped: give its folder, or the hub id hlt-lab/voicebench"):
        create("voicebench/openbookqa", context()).items()
    with pytest.raises(TaskError, match='There is no folder "/nowhere"'):
        create("voicebench/openbookqa", context(voicebench="/nowhere")).items()
    with pytest.raises(TaskError, match='should hold the split "test"'):
        create("voicebench/openbookqa", context(voicebench=tmp_path)).items()
    parquet(tmp_path / "openbookqa" / "test.parquet", [{"question": "which?"}])
    with pytest.raises(TaskError, match="has no column prompt, reference"):
        create("voicebench/openbookqa", context(voicebench=tmp_path)).items()
    (tmp_path / "openbookqa" / "test.parquet").write_bytes(b"not parquet")
    with pytest.raises(TaskError, match="cannot be read as parquet"):
        create("voicebench/openbookqa", context(voicebench=tmp_path)).items()


def test_a_broken_recording_fails_its_own_prompt(tmp_path):
    path = tmp_path / "openbookqa" / "test.parquet"
    path.parent.mkdir()
    table = {"prompt": ["a", "b"], "reference": ["A", "B"], "audio": [{"bytes": b"noise"}, {"bytes": None}]}
    pq.write_table(pa.table(table), path)
    items = create("voicebench/openbookqa", context(voicebench=tmp_path)).items()
    with pytest.raises(TaskError, match="openbookqa/test/0 cannot be decoded"):
        items[0]
    with pytest.raises(TaskError, match="openbookqa/test/1 has no recording"):
        items[1]


def test_a_limit_takes_from_every_subset_in_turn_and_grows_by_adding(folder, kind_judge):
    task = create("voicebench", context(kind_judge.url, voicebench=folder))
    nine = task.items(9, seed=3)
    assert sorted(nine.categories) == sorted(SUBSETS)
    assert nine.ids == task.items(9, seed=3).ids
    assert set(nine.ids) < set(task.items(12, seed=3).ids)
