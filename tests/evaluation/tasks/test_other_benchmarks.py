"""VocalBench's knowledge, OpenAudioBench, VStyle."""

from __future__ import annotations

import json

import pytest

from evaluation.judges.rubrics import STYLE_EMPATHY, STYLE_ROLE
from evaluation.tasks.openaudiobench import references_of
from evaluation.tasks.protocol import Scored, TaskError
from evaluation.tasks.registry import TASKS, create
from evaluation.tasks.vocalbench import normalised
from evaluation.tasks.vstyle import ABILITIES
from tests.evaluation.tasks.datasets import (
    context,
    openaudiobench,
    recordings_of,
    said,
    score_of,
    tone,
    vocalbench,
    vstyle,
    wav,
    words_of,
)
from tests.rewards.judge_server import judge_server
from wavalign.audio import Waveform


def test_knowledge_is_right_when_the_answers_words_are_said(tmp_path):
    task = create("vocalbench-knowledge", context(vocalbench_knowledge=vocalbench(tmp_path)))
    first, second = task.items()
    assert first.category == "Art"
    assert first.facts["source"] == "llamaq-test"
    assert first.dialogue.turns[-1].speech.seconds == pytest.approx(0.1)
    replies = [(first, said("There was a party.", "art it is")), (second, said("It has eight legs!"))]
    scored = task.score(replies)
    assert scored[0].values == {"correct": 0, "published": 1, "correct_heard": 1, "published_heard": 1}
    assert scored[1].values["correct"] == 1
    assert scored[1].values["correct_heard"] is None
    rows = [(item, each) for (item, _), each in zip(replies, scored, strict=True)]
    assert task.summary(rows) == {"s2t": 100, "s2s": 100}


def test_numbers_and_contractions_are_written_alike():
    assert normalised("It's twenty-three, isn't it?") == "it is 23 is not it"


def test_a_list_of_questions_that_is_missing_or_foreign_is_said_in_words(tmp_path):
    task = create("vocalbench-knowledge", context(vocalbench_knowledge=tmp_path))
    with pytest.raises(TaskError, match="needs the list of questions"):
        task.items()
    (tmp_path / "knowledge.json").write_text(json.dumps([{"Qid": "a"}]))
    with pytest.raises(TaskError, match=r"Question 0 of .* lacks Audio, Question"):
        task.items()
    with pytest.raises(TaskError, match="no parts"):
        create("vocalbench-knowledge/art", context())


def test_a_recording_outside_the_data_set_is_not_read(tmp_path):
    vocalbench(tmp_path / "data")
    wav(tmp_path / "secret.wav")
    path = tmp_path / "data" / "json" / "knowledge.json"
    path.write_text(path.read_text().replace("knowledge/0000.wav", "../secret.wav"))
    items = create("vocalbench-knowledge", context(vocalbench_knowledge=tmp_path / "data")).items()
    with pytest.raises(TaskError, match="outside its data set"):
        items[0]


def test_open_audio_bench_asks_each_subset_in_its_own_way(tmp_path):
    """Quality 7 of 10, reasoning 4 of 5, three right answers of which one fails: 70, 80, 100, 100, none."""

    def opinion(number, body):
        words = words_of(body)
        if "usable, with clear weaknesses" in words:
            return score_of(7)
        if "model solution" in words:
            return score_of(4)
        return score_of("high" if "Rome" in words else 1)

    with judge_server(opinion) as endpoint:
        task = create("openaudiobench", context(endpoint.url, openaudiobench=openaudiobench(tmp_path)))
        items = task.items()
        assert items.ids[0] == "alpaca_eval/0"
        assert len(items) == 5
        scored = task.score([(item, said("an answer")) for item in items])
    rows = list(zip(items, scored, strict=True))
    values = {item.category: each.values for item, each in rows}
    assert values["alpaca_eval"] == {"score": 0.7, "correct": None, "quality": 7, "reasoning": None}
    assert values["reasoning_qa"]["score"] == 0.8
    assert values["trivia_qa"]["correct"] == 1
    assert values["web_questions"]["score"] is None
    assert set(scored[4].failed) == {"score", "correct"}
    assert task.summary(rows) == {
        "alpaca_eval": pytest.approx(70),
        "llama_questions": 100,
        "reasoning_qa": pytest.approx(80),
        "trivia_qa": 100,
    }
    full = [*rows[:4], (items[4], Scored({"score": 0.0}))]
    assert task.summary(full)["average"] == pytest.approx(70)
    trivia = next(words_of(body) for body in endpoint.requests if "who sang it" in words_of(body))
    assert "abba\na b b a" in trivia


def test_accepted_answers_are_one_a_line():
    assert references_of("['Rome', 'Roma']") == "Rome\nRoma"
    assert references_of("[not a list") == "[not a list"
    assert references_of(" Paris ") == "Paris"


def test_open_audio_bench_says_which_column_is_missing(tmp_path):
    openaudiobench(tmp_path)
    (tmp_path / "eval_datas" / "trivia_qa" / "trivia_qa.csv").write_text("audio_filename,question\n0.wav,x\n")
    with judge_server(lambda n, body: score_of(1)) as endpoint:
        task = create("openaudiobench/trivia_qa", context(endpoint.url, openaudiobench=tmp_path))
        with pytest.raises(TaskError, match="no column answer_normalized_aliases"):
            task.items()


ALL = [f"{category}/{name}" for category, names in ABILITIES.items() for name in names]


def test_the_style_judge_hears_the_reply_and_gets_the_rubric_of_the_category(tmp_path):
    with judge_server(lambda n, body: score_of(3)) as endpoint:
        folder = vstyle(tmp_path, ["role_play/character", "empathy/anger"])
        task = create("vstyle", context(endpoint.url, vstyle=folder))
        items = task.items()
        assert [item.category for item in items] == ["role_play", "empathy"]
        assert items[0].facts["ability"] == "role_play/character"
        scored = task.score([(item, said("hello", waveform=tone())) for item in items])
    assert [each.values["style"] for each in scored] == [3, 3]
    assert {recordings_of(body) for body in endpoint.requests} == {1}
    hashes = [each.about["prompt_hash"] for each in scored]
    assert hashes == [STYLE_ROLE.hash, STYLE_EMPATHY.hash]
    assert any("say it so, number 1" in words_of(body) for body in endpoint.requests)
    assert not any("hello" in words_of(body) for body in endpoint.requests)  # it rates what is heard, not the text


def test_without_a_recording_there_is_no_style_and_silence_is_the_worst(tmp_path):
    with judge_server(lambda n, body: score_of(5)) as endpoint:
        folder = vstyle(tmp_path, ["instruction/style"])
        task = create("vstyle", context(endpoint.url, vstyle=folder))
        (item,) = task.items()
        nothing = Waveform(tone().samples[:0], 16_000)
        missing, silent = task.score([(item, said("hello")), (item, said("hello", waveform=nothing))])
    assert missing.values["style"] is None
    assert "no recording" in missing.failed["style"]
    assert silent.values["style"] == 1
    assert endpoint.requests == []


def test_vstyles_average_weighs_composite_properties_with_half_of_their_category(tmp_path):
    """Acoustic: composite 5, six others 2: 0.5 * 5 + 0.5 * 2 = 3.5. Others 4, 3, 2: (3.5 + 4 + 3 + 2) / 4 = 3.125."""
    marks = {"instruction": 4.0, "role_play": 3.0, "empathy": 2.0}
    with judge_server(lambda n, body: score_of(5)) as endpoint:
        task = create("vstyle", context(endpoint.url, vstyle=vstyle(tmp_path, ALL)))
        rows = []
        for item in task.items():
            composite = item.facts["ability"].endswith("composite_properties")
            mark = marks.get(item.category, 5.0 if composite else 2.0)
            rows.append((item, Scored({"style": mark})))
    figures = task.summary(rows)
    assert figures["acoustic_attributes"] == pytest.approx(3.5)
    assert figures["average"] == pytest.approx(3.125)
    without = [row for row in rows if row[0].category != "empathy"]
    assert "average" not in task.summary(without)


def test_style_data_in_json_lines_and_in_other_words_is_read(tmp_path):
    rows = [{"instruct_text": "sadly", "ability": "acoustic_properties/emotion", "instruct_id": 4, "audio": "a.wav"}]
    wav(tmp_path / "en" / "a.wav")
    (tmp_path / "en" / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    with judge_server(lambda n, body: score_of(5)) as endpoint:
        task = create("vstyle", context(endpoint.url, vstyle=tmp_path))
        (item,) = task.items()
        assert (item.id, item.category) == ("en/4", "acoustic_attributes")
        with pytest.raises(TaskError, match='"zh"'):
            create("vstyle/zh", context(endpoint.url, vstyle=tmp_path)).items()
        (tmp_path / "en" / "metadata.jsonl").write_text(json.dumps(rows[0] | {"ability": "singing/opera"}))
        with pytest.raises(TaskError, match="singing/opera"):
            task.items()


def test_every_registered_task_can_be_built_and_names_its_metrics():
    for name in TASKS:
        task = create(name, context())
        assert task.name == name
        names = [info.name for info in task.metrics]
        assert names
        assert len(set(names)) == len(names)
        assert task.needs <= {"transcript", "waveform"}
    with pytest.raises(TaskError, match="no task"):
        create("superbench", context())
