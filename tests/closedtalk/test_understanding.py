"""Understanding: from what was said or typed to the question, or to a plain "outside the world"."""

from __future__ import annotations

import time

import pytest

from wavalign.closedtalk import (
    SPLITS,
    Delivery,
    Question,
    describe_world,
    dialogue_spec,
    item_of,
    normalise_typed,
    understand,
    unknown_words,
)


def asked(item_id: str, requested: Delivery | None = None) -> Question:
    return Question(item_of(item_id), requested, "question")


@pytest.mark.parametrize("split", SPLITS)
def test_every_turn_of_the_world_is_understood(split: str) -> None:
    for index in range(1000):
        history: list[Question] = []
        for turn in dialogue_spec(split, index).turns:
            meant = Question(turn.item, turn.requested, turn.kind)
            assert understand(turn.text, history) == meant, turn.text
            history.append(meant)


@pytest.mark.parametrize(
    ("text", "item_id", "requested"),
    [
        ("What's 7+5?", "add/seven/five", None),
        ("7 - 5", "subtract/seven/five", None),
        ("subtract two from five", "subtract/five/two", None),
        ("Which one is bigger, 5 or 2?", "bigger/five/two", None),
        ("how many legs do spiders have", "legs/spider", None),
        ("Please, can you tell me what the capital of Spain is?", "capitals/spain", None),
        ("capital of france in a sad voice please", "capitals/france", Delivery.SAD),
        ("What day follows Monday?", "day_after/monday", None),
        ("What does a dog say, happily", "animal_sounds/dog", Delivery.HAPPY),
        ("what color is the sky", "colours/sky", None),
        ("what is the capitol of germeny", "capitals/germany", None),
        ("how many letters are in the word cat", "letters/cat", None),
        ("Thank you!", "manners/thanks", None),
    ],
)
def test_questions_in_other_words_are_understood(text: str, item_id: str, requested: Delivery | None) -> None:
    assert understand(text) == asked(item_id, requested)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?!",
        "tell me a joke",
        "what is the weather in london",
        "what is the capital of bulgaria",
        "what is nine plus nine",
        "what is eighty plus two",
        "what is two plus two plus two",
        "what is the opposite of happy",
        "wie spät ist es",
        "你好 😀",
        "how old are you",
        "plus " * 3000,
        "and spain",
        "and in a sad voice",
    ],
)
def test_what_is_outside_the_world_is_not_guessed(text: str) -> None:
    assert understand(text) is None


@pytest.mark.parametrize(
    ("text", "last", "item_id", "kind", "requested"),
    [
        ("and Spain?", "capitals/france", "capitals/spain", "follow_up", None),
        ("how about Spain, in a happy voice", "capitals/france", "capitals/spain", "follow_up", Delivery.HAPPY),
        ("what about three and two", "add/one/one", "add/three/two", "follow_up", None),
        ("and two or six", "bigger/one/two", "bigger/two/six", "follow_up", None),
        ("what about the cat", "legs/dog", "legs/cat", "follow_up", None),
        ("and the cat", "animal_sounds/dog", "animal_sounds/cat", "follow_up", None),
        ("and five plus two", "subtract/five/two", "add/five/two", "question", None),
        ("and in a sad voice?", "legs/dog", "legs/dog", "redelivery", Delivery.SAD),
        ("Say it again, happily!", "legs/dog", "legs/dog", "redelivery", Delivery.HAPPY),
        ("do it again but sad", "legs/dog", "legs/dog", "redelivery", Delivery.SAD),
        ("again please", "legs/dog", "legs/dog", "redelivery", None),
    ],
)
def test_follow_ups_take_what_is_missing_from_the_history(
    text: str, last: str, item_id: str, kind: str, requested: Delivery | None
) -> None:
    history = [asked("manners/hello"), asked(last)]
    assert understand(text, history) == Question(item_of(item_id), requested, kind)


def test_a_follow_up_goes_back_past_an_unrelated_turn() -> None:
    history = [asked("capitals/france"), asked("manners/thanks")]
    assert understand("and italy", history) == Question(item_of("capitals/italy"), None, "follow_up")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("What's 7+5?", "what is seven plus five"),
        ("12 \u2212 4 = 8", "twelve minus four is eight"),
        ("20 and 21 and 7.5", "twenty and 21 and 7.5"),
        ("a well-known COLOR, isn\u2019t it", "a well known colour isnt it"),
        ("It's\tthe dog's\n legs", "it is the dog legs"),
        ("  ", ""),
        ("😀 hello 😀", "hello"),
        ("99999999999999999999", "99999999999999999999"),
    ],
)
def test_typed_text_becomes_words(typed: str, words: str) -> None:
    assert normalise_typed(typed) == words


def test_unknown_words_are_listed_once_in_order() -> None:
    assert unknown_words("What is the capital of Bulgaria or Peru or Bulgaria?") == ("bulgaria", "peru")


def test_ten_thousand_characters_take_no_time() -> None:
    begin = time.thread_time()  # of the processor, whatever else the machine does
    assert understand("what is the capital of " * 450) is None
    assert understand("x" * 10_000) is None
    assert understand("- " * 5_000) is None
    assert time.thread_time() - begin < 1


def test_the_description_gives_two_questions_of_each_family_that_are_understood() -> None:
    described = describe_world()
    assert len(described) >= 12
    for _, examples in described:
        assert len(set(examples)) == 2
        for example in examples:
            assert example[0].isupper()
            assert understand(example) is not None
