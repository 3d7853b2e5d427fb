"""Where examples come from: every source, and what happens to rows that cannot be used."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from app import export_parquet
from wavalign import audio
from wavalign.audio import Waveform
from wavalign.closedtalk.dataset import DialogueRow, TurnRow, write_dialogues
from wavalign.training.data import load_examples
from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError

ROW = {
    "messages": [
        {"role": "system", "content": "You are a voice assistant."},
        {"role": "user", "content": "Please answer.\n\n<|audio|>"},
    ],
    "audios": ["audio/question.wav"],
    "sft_target_text": "Here you are.",
    "sft_target_audio": "audio/answer.wav",
    "task_type": "s2s",
    "question_text": "what time is it",
}


def tone(seconds: float, rate: int = 16_000) -> Waveform:
    return Waveform(0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate), rate)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "audio").mkdir()
    audio.write(tmp_path / "audio" / "question.wav", tone(0.5))
    audio.write(tmp_path / "audio" / "answer.wav", tone(0.25, 22_050))
    audio.write(tmp_path / "audio" / "worse.flac", tone(0.75))
    return tmp_path


def jsonl(folder, *rows, name="data.jsonl"):
    """Rows as JSON, or text as it stands."""
    path = folder / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def load(path, **settings):
    return load_examples(DataConfig(source="jsonl", path=str(path), **settings))


def changed(**fields):
    return {**ROW, **fields}


# The published schema


def test_a_row_of_the_published_schema_is_read_whole(folder):
    (example,) = load(jsonl(folder, ROW))
    (turn,) = example.prompt.turns
    assert (turn.role, turn.text, turn.speech.seconds) == ("user", "Please answer.", 0.5)
    assert example.target_text == "Here you are."
    assert (example.target_speech.seconds, example.target_speech.sample_rate) == (pytest.approx(0.25, abs=1e-3), 22_050)
    assert (example.task, example.question_text, example.id) == ("s2s", "what time is it", "data.jsonl:1")
    assert example.rejected_text is None
    assert example.rejected_speech is None


def test_a_rejected_reply_makes_it_a_preference(folder):
    (example,) = load(jsonl(folder, changed(rejected_text="Okay.", rejected_audio="audio/worse.flac")))
    assert example.has_rejected
    assert example.rejected_speech.seconds == 0.75


def test_paths_are_relative_to_the_file_and_absolute_ones_stay(folder):
    nested = folder / "lists"
    nested.mkdir()
    relative = [f"../{ROW['audios'][0]}"]
    absolute = str(folder / "audio" / "answer.wav")
    (example,) = load(jsonl(nested, changed(audios=relative, sft_target_audio=absolute)))
    assert example.prompt.turns[0].speech.seconds == 0.5


def test_recordings_go_to_their_marks_in_order_through_several_turns(folder):
    messages = [
        {"role": "user", "content": "<|audio|>"},
        {"role": "assistant", "content": "One. <|audio|>"},
        {"role": "user", "content": "and typed"},
    ]
    row = changed(messages=messages, audios=["audio/question.wav", "audio/answer.wav"], question_text=None)
    (example,) = load(jsonl(folder, row))
    first, reply, last = example.prompt.turns
    assert (first.text, first.speech.seconds) == (None, 0.5)
    assert (reply.role, reply.text, reply.speech.sample_rate) == ("assistant", "One.", 22_050)
    assert (last.text, last.speech, example.question_text) == ("and typed", None, "and typed")


def test_a_message_may_be_a_list_of_parts(folder):
    parts = [{"type": "text", "text": "listen"}, {"type": "audio"}]
    own = [{"type": "audio", "audio": "audio/answer.wav"}]
    examples = load(
        jsonl(
            folder,
            changed(messages=[{"role": "user", "content": parts}]),
            changed(messages=[{"role": "user", "content": own}], audios=[]),
        )
    )
    assert [e.prompt.turns[0].text for e in examples] == ["listen", None]
    assert [e.prompt.turns[0].speech.sample_rate for e in examples] == [16_000, 22_050]


def test_a_final_assistant_message_is_the_target_where_none_is_named(folder):
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi. <|audio|>"}]
    plain = {"messages": messages, "audios": ["audio/answer.wav"]}
    named = {**plain, "sft_target_text": "Good day."}
    first, second = load(jsonl(folder, plain, named))
    assert (first.target_text, first.has_target, len(first.prompt.turns)) == ("Hi.", True, 1)
    assert (second.target_text, second.target_speech) == ("Good day.", None)


def test_other_columns_become_facts(folder):
    (example,) = load(jsonl(folder, changed(item="add/two/two", chosen_score=4.5, note=None)))
    assert dict(example.facts) == {"item": "add/two/two", "chosen_score": 4.5}


def test_tasks_limit_and_ids_choose_rows(folder):
    rows = [changed(id=name, task_type=task) for name, task in (("a", "s2s"), ("b", "tts"), ("c", "s2s"), ("d", "s2s"))]
    path = jsonl(folder, *rows)
    assert load(path, tasks=("s2s",), limit=2).ids == ("a", "c")
    (folder / "pool.json").write_text(json.dumps({"kept": ["d", "b"]}))
    assert load(path, pool=folder / "pool.json").ids == ("b", "d")
    with pytest.raises(DataError, match=r"None of the 4 examples"):
        load(path, tasks=("asr",))


def test_repeated_ids_are_refused(folder):
    with pytest.raises(DataError, match='two examples with the id "a"'):
        load(jsonl(folder, changed(id="a"), changed(id="a")))


def test_a_json_list_of_rows_is_read_too(folder):
    (folder / "rows.json").write_text(json.dumps([changed(id="a"), 3]))
    examples = load(folder / "rows.json", unreadable="skip")
    assert examples.ids == ("a",)
    assert str(examples.unreadable[0]).endswith("rows.json:2: a row must be an object of the schema's fields, got int.")
    (folder / "rows.json").write_text('{"a": 1}\n{"b": 2}')
    with pytest.raises(DataError, match="not valid JSON"):
        load(folder / "rows.json")


# Rows that cannot be used

BROKEN = {
    "not JSON": ('{"messages": [', "is not JSON"),
    "not an object": ("[1, 2]", "must be an object"),
    "no messages": ({"audios": []}, "messages must be a list"),
    "no user turn": (changed(messages=[{"role": "assistant", "content": "hi"}], audios=[]), "no user turn"),
    "unknown role": (changed(messages=[{"role": "tool", "content": "hi"}]), "message 1 needs a role"),
    "an empty message": (changed(messages=[{"role": "user", "content": " "}], audios=[]), "message 1 is empty"),
    "too few audios": (changed(audios=[]), "asks for a recording, but audios has only 0"),
    "too many audios": (changed(audios=["audio/question.wav"] * 2), "the messages mark only 1"),
    "two recordings in a turn": (
        changed(messages=[{"role": "user", "content": "<|audio|><|audio|>"}], audios=["audio/question.wav"] * 2),
        "at most one",
    ),
    "a missing file": (changed(sft_target_audio="audio/gone.wav"), "gone.wav is missing"),
    "not audio": (changed(sft_target_audio="audio/notes.wav"), "cannot be decoded"),
    "an empty recording": (changed(sft_target_audio="audio/empty.wav"), "cannot be decoded"),
    "audios that are no list": (changed(audios=5), "audios must be a list of recordings, got int"),
    "audios that are one path": (changed(audios='"audio/question.wav"'), "must be a list of recordings, got str"),
    "a path too long for a file": (changed(sft_target_audio="a" * 5000), "cannot be read (File name too long)"),
    "an id that is a list": (changed(id=["a"]), "id must be text or a number"),
    "text that is a number": (changed(sft_target_text=5), "sft_target_text must be text"),
    "a part of another kind": (
        changed(messages=[{"role": "user", "content": [{"type": "image"}]}], audios=[]),
        "neither text nor audio",
    ),
}


@pytest.fixture
def broken_files(folder):
    (folder / "audio" / "notes.wav").write_text("these are words")
    audio.write(folder / "audio" / "empty.wav", tone(0))
    return folder


@pytest.mark.parametrize("kind", BROKEN)
def test_an_unreadable_row_is_named_with_file_and_line_and_reason(broken_files, kind):
    row, reason = BROKEN[kind]
    path = jsonl(broken_files, ROW, "", row)
    with pytest.raises(DataError, match=r"data\.jsonl:3: ") as error:
        load(path)
    assert reason in str(error.value)
    examples = load(path, unreadable="skip")
    assert examples.ids == ("data.jsonl:1",)
    (left_out,) = examples.unreadable
    assert (left_out.file, left_out.line) == (path, 3)
    assert reason in left_out.reason


def test_a_line_that_is_not_utf8_is_unreadable_and_the_rest_is_not(folder):
    path = jsonl(folder, ROW)
    path.write_bytes(path.read_bytes() + b'{"messages": "\xff\xfe"}\n' + json.dumps(changed(id="z")).encode() + b"\n")
    examples = load(path, unreadable="skip")
    assert examples.ids == ("data.jsonl:1", "z")
    assert examples.unreadable[0].reason == "the line is not UTF-8 text."


def test_nothing_usable_stops_even_where_rows_may_be_skipped(folder):
    with pytest.raises(DataError, match=r"no usable example \(2 rows cannot be read\)"):
        load(jsonl(folder, "{", "}"), unreadable="skip")


def test_a_missing_file_is_one_sentence(folder):
    with pytest.raises(DataError, match=r"nothing\.jsonl cannot be read"):
        load(folder / "nothing.jsonl")


def test_audio_that_breaks_after_the_check_is_named_when_it_is_asked_for(folder):
    examples = load(jsonl(folder, ROW))
    (folder / "audio" / "answer.wav").write_text("overwritten")
    with pytest.raises(DataError, match=r"data\.jsonl:1: the audio file audio/answer\.wav cannot be read any more"):
        examples[0]


def test_without_the_check_a_broken_file_shows_only_when_it_is_asked_for(broken_files):
    examples = load(jsonl(broken_files, changed(sft_target_audio="audio/notes.wav")), check_audio=False)
    with pytest.raises(DataError, match="cannot be read any more"):
        examples[0]


# Tables


def as_table(*rows):
    return pa.Table.from_pylist(list(rows))


def test_a_folder_of_parquet_is_read_without_the_datasets_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (folder / "data").mkdir()
    pq.write_table(as_table(changed(id="a")), folder / "data" / "train-00000-of-00002.parquet")
    pq.write_table(as_table(changed(id="b")), folder / "data" / "train-00001-of-00002.parquet")
    pq.write_table(as_table(changed(id="c")), folder / "data" / "test-00000-of-00001.parquet")
    tables = load_examples(DataConfig(source="datasets", path=str(folder)))
    assert tables.ids == ("a", "b")
    assert tables[1].prompt.turns[0].speech.seconds == 0.5
    assert load_examples(DataConfig(source="datasets", path=str(folder), split="test")).ids == ("c",)
    with pytest.raises(DataError, match='no parquet file of the split "dev"'):
        load_examples(DataConfig(source="datasets", path=str(folder), split="dev"))


def test_audio_may_be_inside_the_table_as_hub_data_sets_keep_it(folder):
    inside = {"bytes": (folder / "audio" / "question.wav").read_bytes(), "path": None}
    row = changed(audios=[inside], sft_target_audio=inside, messages=json.dumps(ROW["messages"]))
    pq.write_table(as_table(row), folder / "rows.parquet")
    (example,) = load_examples(DataConfig(source="datasets", path=str(folder / "rows.parquet")))
    assert example.prompt.turns[0].speech.seconds == 0.5
    assert example.target_speech.seconds == 0.5


def test_an_unreadable_row_of_a_table_is_named(folder):
    pq.write_table(as_table(changed(id="a"), changed(sft_target_audio="gone.wav")), folder / "train.parquet")
    with pytest.raises(DataError, match=r"train\.parquet:2: the audio file .*gone\.wav is missing"):
        load_examples(DataConfig(source="datasets", path=str(folder)))


def test_a_hub_id_needs_the_datasets_package_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="pip install datasets"):
        load_examples(DataConfig(source="datasets", path="someone/speech"))


def test_a_saved_data_set_is_read_through_the_package(folder):
    datasets = pytest.importorskip("datasets")
    row = changed(audios=[str(folder / "audio" / "question.wav")], sft_target_audio=str(folder / "audio/answer.wav"))
    features = datasets.Features(
        {
            "messages": datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")}),
            "audios": datasets.List(datasets.Value("string")),
            "sft_target_text": datasets.Value("string"),
            "sft_target_audio": datasets.Value("string"),
            "task_type": datasets.Value("string"),
            "question_text": datasets.Value("string"),
        }
    )
    table = datasets.Dataset.from_list([row], features=features).cast_column("sft_target_audio", datasets.Audio())
    table = table.cast_column("audios", datasets.List(datasets.Audio()))
    datasets.DatasetDict({"train": table}).save_to_disk(str(folder / "saved"))
    (example,) = load_examples(DataConfig(source="datasets", path=str(folder / "saved")))
    assert example.prompt.turns[0].speech.seconds == 0.5
    assert example.target_speech.sample_rate == 22_050
    # Moved elsewhere, it holds the same examples: a run on them goes on.
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "saved", folder / "elsewhere" / "saved")
    (moved,) = load_examples(DataConfig(source="datasets", path=str(folder / "elsewhere" / "saved")))
    assert moved.id == example.id == "saved:1"


# Votes


def test_a_vote_is_a_preference(folder):
    chosen, rejected = {"text": "A", "audio": "audio/answer.wav"}, {"text": "B", "audio": "audio/worse.flac"}
    path = jsonl(folder, {"prompt": "hello", "chosen": chosen, "rejected": rejected, "battle": "b1"})
    (example,) = load_examples(DataConfig(source="votes", path=str(path)))
    assert example.has_rejected
    assert (example.prompt.turns[0].text, example.target_text, example.rejected_text) == ("hello", "A", "B")
    assert example.facts["battle"] == "b1"


def test_what_the_arena_exports_can_be_trained_on(folder):
    def said(*turns):
        return [{"role": role, "content": content} for role, content in turns]

    def sound(name):
        return (folder / "audio" / name).read_bytes()

    pair = {"chosen_audio": sound("answer.wav"), "rejected_audio": sound("worse.flac"), "margin": 2.0}
    one = {"chosen": said(("assistant", "A")), "rejected": said(("assistant", "B")), **pair}
    several = said(("assistant", "A"), ("user", "and then"), ("assistant", "C"))
    asked = {"prompt": said(("user", "hello there"))}
    rows = [
        {**asked, **one, "prompt_audio": sound("question.wav"), "vote": "v1"},
        {**asked, **one, "prompt_audio": None, "vote": "v2"},
        {**asked, **one, "chosen": several, "vote": "v3"},
    ]
    (folder / "export" / "preference").mkdir(parents=True)
    columns = export_parquet.COLUMNS["preference"]
    whole = [dict.fromkeys(columns) | row for row in rows]
    export_parquet.write(folder / "export" / "preference" / "preference-1a2b.parquet", "preference", iter(whole))
    (folder / "export" / "preference_text").mkdir()
    bare = [{name: row[name] for name in export_parquet.COLUMNS["preference_text"]} for row in whole]
    export_parquet.write(folder / "export/preference_text/preference_text-3c.parquet", "preference_text", iter(bare))

    votes = load_examples(DataConfig(source="votes", path=str(folder / "export"), unreadable="skip"))
    assert votes.ids == ("v1", "v2")
    spoken, typed = votes
    assert (spoken.prompt.turns[0].speech.seconds, spoken.question_text) == (0.5, "hello there")
    assert (typed.prompt.turns[0].speech, typed.prompt.turns[0].text) == (None, "hello there")
    assert (spoken.target_text, spoken.target_speech.sample_rate) == ("A", 22_050)
    assert (spoken.rejected_text, spoken.rejected_speech.seconds) == ("B", 0.75)
    assert spoken.facts["margin"] == 2.0
    assert "conversation of several turns" in votes.unreadable[0].reason


def test_half_a_vote_is_unreadable(folder):
    row = {"messages": ROW["messages"], "audios": ROW["audios"], "chosen_text": "A", "chosen_audio": "audio/answer.wav"}
    path = jsonl(folder, {**row, "rejected_text": "B"})
    with pytest.raises(DataError, match="rejected reply needs text and audio"):
        load_examples(DataConfig(source="votes", path=str(path)))


# ClosedTalk


def closedtalk_turn(**changes):
    turn = {
        "text": "what is two plus two",
        "tone": "plain",
        "item": "add/two/two",
        "family": "add",
        "kind": "question",
        "requested": None,
        "delivery": "neutral",
        "answer": "two plus two is four",
        "demonstration": "two plus two is four",
        "user_codes": (1, 2, 3),
        "reply_codes": (4, 5),
    }
    return TurnRow(**{**turn, **changes})


@pytest.fixture
def closedtalk(tmp_path):
    wrong = closedtalk_turn(demonstration="two plus two is five")
    again = closedtalk_turn(text="say it in a sad voice", requested="sad", delivery="sad", user_codes=())
    dialogues = [
        DialogueRow("validation", 0, "a", "seen", False, "espeak", "v", (closedtalk_turn(), again)),
        DialogueRow("validation", 1, "b", "seen", False, "espeak", "v", (wrong, again)),
    ]
    write_dialogues(tmp_path / "validation.parquet", dialogues)
    return tmp_path


def test_a_dialogue_is_asked_at_its_last_turn_whose_history_is_right(closedtalk):
    both = load_examples(DataConfig(path=str(closedtalk), split="validation"))
    assert both.ids == ("validation/0", "validation/1")
    follow_up, first = both
    asked, reply, redelivery = follow_up.prompt.turns
    assert (asked.codes, asked.text) == ((1, 2, 3), "what is two plus two")
    assert (reply.text, reply.codes) == ("two plus two is four", (4, 5))
    assert (redelivery.text, redelivery.codes) == ("say it in a sad voice", None)
    assert len(first.prompt.turns) == 1
    assert first.target_text == "two plus two is five"
    assert first.target_speech == (4, 5)
    assert (first.task, follow_up.task) == ("semantic", "both")
    assert follow_up.facts["item"] == "add/two/two"
    assert follow_up.facts["delivery"] == follow_up.facts["requested"] == "sad"


def test_each_turn_with_a_right_history_can_be_asked(closedtalk):
    each = load_examples(DataConfig(path=str(closedtalk), split="validation", turns="each"))
    assert each.ids == ("validation/0/0", "validation/0/1", "validation/1/0")


def test_an_unknown_split_names_those_there_are(closedtalk):
    with pytest.raises(DataError, match='no split "held_out"; it has: validation'):
        load_examples(DataConfig(path=str(closedtalk), split="held_out"))


def test_the_shipped_prompts_can_be_read():
    examples = load_examples(DataConfig(limit=5))
    assert len(examples) == 5
    assert all(example.has_target and example.facts["item"] for example in examples)


# The config


def test_a_config_that_cannot_work_says_what_is_missing():
    with pytest.raises(ValidationError, match=r"data\.path is missing"):
        DataConfig(source="jsonl")
    with pytest.raises(ValidationError, match="source"):
        DataConfig(source="csv", path="x")
    with pytest.raises(ValidationError, match="revision"):
        DataConfig(revision="main")


def test_a_pool_that_is_none_is_one_sentence(closedtalk, tmp_path):
    (tmp_path / "pool.json").write_text("[]")
    with pytest.raises(DataError, match="is not a pool of prompts"):
        load_examples(DataConfig(path=str(closedtalk), split="validation", pool=tmp_path / "pool.json"))
