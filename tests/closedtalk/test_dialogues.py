"""Dialogues: reproducible, disjoint between splits, as varied and as wrong as they are meant to be."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

from wavalign.closedtalk import (
    SPLITS,
    Delivery,
    DialogueSpec,
    Tone,
    TurnSpec,
    answer,
    dialogue_spec,
    fitting_delivery,
    is_hard,
    is_unseen,
    lexicon,
    signature,
)
from wavalign.closedtalk.dialogues import wording
from wavalign.closedtalk.world import habitual_wrong_key

MANY = 2000


@cache
def specs(split: str) -> tuple[DialogueSpec, ...]:
    return tuple(dialogue_spec(split, index) for index in range(MANY))


@cache
def turns(split: str) -> tuple[TurnSpec, ...]:
    return tuple(turn for spec in specs(split) for turn in spec.turns)


def share(values: list[bool]) -> float:
    return sum(values) / len(values)


def test_a_dialogue_is_the_same_in_every_process() -> None:
    """Python salts its own hash per process; the seeds must not depend on it."""
    code = (
        "from wavalign.closedtalk import *; print([signature(dialogue_spec(s, i)) for s in SPLITS for i in range(5)])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert printed == {str([signature(dialogue_spec(split, index)) for split in SPLITS for index in range(5)])}


def test_no_dialogue_is_in_two_splits() -> None:
    said: dict[str, str] = {}
    for split in SPLITS:
        for spec in specs(split):
            assert said.setdefault(signature(spec), split) == split


def test_no_wording_is_in_two_splits_not_even_typed() -> None:
    said: dict[tuple[str, ...], str] = {}
    for split in SPLITS:
        for spec in specs(split):
            assert said.setdefault(wording(spec), split) == split


def test_voices_of_different_splits_are_drawn_from_different_seeds() -> None:
    seeds = {split: {spec.voice_seed for spec in specs(split)} for split in SPLITS}
    for split in SPLITS:
        for other in SPLITS:
            assert split == other or not seeds[split] & seeds[other]


def test_unseen_combinations_are_in_their_probe_only() -> None:
    assert all(is_unseen(turn.item) for turn in turns("unseen_combinations"))
    for split in ("train", "post_training", "validation", "held_out"):
        assert not any(is_unseen(turn.item) for turn in turns(split))


def test_held_out_has_unseen_phrasings_in_half_of_its_dialogues() -> None:
    assert 0.45 < share([spec.phrasing == "unseen" for spec in specs("held_out")]) < 0.55
    for split in set(SPLITS) - {"held_out"}:
        assert all(spec.phrasing == "seen" for spec in specs(split))


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_is_in_the_lexicon(split: str) -> None:
    words = {word for turn in turns(split) for word in f"{turn.text} {turn.answer} {turn.demonstration}".split()}
    assert words <= set(lexicon())


@pytest.mark.parametrize("split", SPLITS)
def test_deliveries_follow_the_request_first_and_the_tone_otherwise(split: str) -> None:
    for turn in turns(split):
        assert turn.delivery == fitting_delivery(turn.requested, turn.tone)
        assert (turn.requested is not None) == turn.text.endswith(" voice")
        assert turn.answer == answer(turn.item)
        assert turn.demonstration_item_ok == (turn.demonstration == turn.answer)
    typed = [turn for spec in specs(split) if spec.typed for turn in spec.turns]
    assert {turn.tone for turn in typed} == {Tone.PLAIN}


def test_fitting_deliveries() -> None:
    assert fitting_delivery(None, Tone.PLAIN) is Delivery.NEUTRAL
    assert fitting_delivery(None, Tone.SLOW_LOW) is Delivery.CALM
    assert fitting_delivery(None, Tone.FAST_HIGH) is Delivery.EXCITED
    assert fitting_delivery(Delivery.SAD, Tone.FAST_HIGH) is Delivery.SAD


def test_dialogues_are_as_varied_as_intended() -> None:
    train = specs("train")
    assert 0.56 < share([len(spec.turns) == 1 for spec in train]) < 0.64
    assert 0.07 < share([len(spec.turns) == 3 for spec in train]) < 0.13
    assert 0.31 < share([spec.typed for spec in train]) < 0.39
    first = [spec.turns[0] for spec in train]
    assert 0.50 < share([turn.requested is not None for turn in first]) < 0.60
    assert 0.13 < share([turn.requested is None and turn.tone != Tone.PLAIN for turn in first]) < 0.23
    for delivery in Delivery:
        assert share([turn.delivery == delivery for turn in turns("train")]) > 0.1


def test_later_turns_need_the_turn_before() -> None:
    for spec in specs("train"):
        assert spec.turns[0].kind == "question"
        for before, turn in zip(spec.turns, spec.turns[1:], strict=False):
            if turn.kind == "follow_up":
                assert turn.item.family == before.item.family
                assert turn.item != before.item
            if turn.kind == "redelivery":
                assert turn.item == before.item
                assert turn.requested not in (None, before.delivery)
                assert turn.demonstration == before.demonstration
    kinds = {turn.kind for turn in turns("train")}
    assert kinds == {"question", "follow_up", "redelivery"}


def test_demonstrations_are_wrong_systematically_and_at_random() -> None:
    """Hard: 40 % right, 50 % one mistake, 10 % others; easy: 86 % right. Standard errors here are below 2 points."""
    asked = [turn for split in ("train", "post_training") for turn in turns(split) if turn.kind != "redelivery"]
    hard, easy = [t for t in asked if is_hard(t.item)], [t for t in asked if not is_hard(t.item)]
    assert share([turn.demonstration_item_ok for turn in hard]) == pytest.approx(0.40, abs=0.05)
    assert share([turn.demonstration_item_ok for turn in easy]) == pytest.approx(0.86, abs=0.03)
    choosable = [turn for turn in hard if turn.item.family not in ("bigger", "smaller")]
    habit = [
        turn.demonstration != turn.answer and habitual_wrong_key(turn.item) in turn.demonstration for turn in choosable
    ]
    assert share(habit) == pytest.approx(0.50, abs=0.06)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no split 'test'"):
        dialogue_spec("test", 0)
    with pytest.raises(ValueError, match="counts from 0"):
        dialogue_spec("train", -1)
