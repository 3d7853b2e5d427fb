from __future__ import annotations

import json

import pytest

from evaluation.benchmarks import BENCHMARKS, of_suite
from evaluation.closedtalk_prompts import Prompt, SpokenReply, prompt_of
from evaluation.run import main
from tests.evaluation.shipped import dialogue_row, make_assets, turn_row

HOT, COLD = ("hot",), ("cold",)


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return make_assets(tmp_path_factory.mktemp("assets"))


def test_the_last_turn_is_asked_when_its_history_is_right():
    dialogue = dialogue_row("held_out", 0, turn_row(HOT), turn_row(COLD, kind="follow_up"))
    prompt = prompt_of(dialogue)
    assert prompt.turn is dialogue.turns[1]
    assert prompt.before == dialogue.turns[:1]


def test_a_turn_after_a_wrong_demonstration_is_not_asked():
    wrong = turn_row(HOT, demonstration="the opposite of hot is slow")
    dialogue = dialogue_row("held_out", 0, wrong, turn_row(HOT, kind="redelivery", requested="sad", delivery="sad"))
    assert prompt_of(dialogue).turn is dialogue.turns[0]
    assert prompt_of(dialogue).before == ()
    alone = dialogue_row("held_out", 1, wrong)
    assert prompt_of(alone).turn is alone.turns[0]


@pytest.mark.parametrize(
    ("changes", "asking"),
    [
        ({"requested": "sad", "tone": "fast_high", "delivery": "sad"}, "in words"),
        ({"tone": "fast_high", "delivery": "excited"}, "by the user's tone"),
        ({}, "not at all"),
    ],
)
def test_words_that_ask_for_a_delivery_come_before_the_tone(changes, asking):
    assert prompt_of(dialogue_row("held_out", 0, turn_row(HOT, **changes))).asking == asking


def test_a_reply_is_graded_by_the_rule():
    prompt = Prompt(dialogue_row("held_out", 0, turn_row(HOT)), turn_row(HOT), ())
    assert SpokenReply(prompt, "the opposite of hot is cold", True).grade == 5
    assert SpokenReply(prompt, "the opposite of hot is cold", True).correct
    assert not SpokenReply(prompt, "the opposite of hot is slow", True).correct


def test_probes_run_only_when_they_are_asked_for():
    assert not any(benchmark.probe for benchmark in of_suite("closedtalk", probes=False).values())
    assert list(of_suite("closedtalk", probes=True)) == list(BENCHMARKS)


@pytest.mark.slow
def test_every_benchmark_runs_on_shipped_data_alone(assets, tmp_path, capsys):
    path = tmp_path / "figures.json"
    arguments = ["closedtalk", "--assets", str(assets), "--limit", "3", "--probes", "--json", str(path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "targets met" in printed
    assert "falls short" in printed
    figures = {f["id"]: f for f in json.loads(path.read_text())["figures"]}
    groups = {id.split("/")[0] for id in figures}
    assert groups == {"codec", "users", "recogniser", "base", "mixed", "human", "third_synthesiser", "unseen"}
    assert figures["codec/tokens_per_second"]["value"] == 25.0
    assert figures["base/accuracy_greedy"]["n"] == 3
    assert sum(figures[f"mixed/passed_{count}"]["value"] for count in range(9)) == 3


def test_the_same_seed_gives_the_same_figures(assets, tmp_path):
    arguments = ["closedtalk", "--assets", str(assets), "--limit", "2", "--only", "mixed", "--json"]
    for name in ("first.json", "second.json"):
        assert main([*arguments, str(tmp_path / name)]) == 0
    assert (tmp_path / "first.json").read_text() == (tmp_path / "second.json").read_text()


@pytest.mark.parametrize("only", ["codec", "mixed"])
def test_missing_assets_are_one_sentence(tmp_path, capsys, only):
    assert main(["closedtalk", "--assets", str(tmp_path), "--only", only]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert "Traceback" not in error
