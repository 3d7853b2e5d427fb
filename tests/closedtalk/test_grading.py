"""Grades, each worked by hand against the rubric."""

from __future__ import annotations

import pytest

from wavalign.closedtalk import all_items, answer, grade, is_correct, item_of
from wavalign.closedtalk.families import FAMILIES
from wavalign.closedtalk.world import family_items, family_of, wrong_keys


@pytest.mark.parametrize(
    ("item_id", "reply", "expected"),
    [
        ("add/seven/five", "seven plus five is twelve", 5),
        ("add/seven/five", "7 + 5 = 12.", 5),
        ("add/seven/five", "Seven plus FIVE is twelve!", 5),
        ("add/seven/five", "twelve", 4),
        ("add/seven/five", "it is twelve", 4),
        ("add/seven/five", "well i think the answer is twelve", 4),
        ("add/seven/five", "seven plus plus five is twelve", 4),
        ("add/seven/five", "twelve is seven plus five", 4),
        ("add/seven/five", "seven plus five is eleven", 3),
        ("add/seven/five", "seven plus four is twelve", 3),
        ("add/seven/five", "twelve plus five is seven", 3),
        ("add/seven/five", "seven plus five is twelve or eleven", 3),
        ("add/seven/five", "eleven", 3),
        ("add/seven/five", "the cow says moo", 2),
        ("add/seven/five", "five is bigger than two", 2),
        ("add/seven/five", "twelve comes after eleven", 2),
        ("add/seven/five", "", 1),
        ("add/seven/five", " ... 🙂 ", 1),
        ("subtract/six/three", "six minus three is three", 5),
        ("subtract/six/three", "three", 4),
        ("subtract/six/three", "six minus three", 3),
        ("bigger/two/five", "five bigger than two", 4),
        ("bigger/two/five", "two is bigger than five", 3),
        ("bigger/two/five", "two", 3),
        ("month_after/june", "july", 4),
        ("month_after/june", "june comes after july", 3),
        ("month_after/june", "august comes after june", 3),
        ("month_after/june", "thursday comes after wednesday", 2),
        ("capitals/france", "paris is the capital of france", 4),
        ("capitals/france", "the capital of spain is paris", 3),
        ("capitals/france", "the capital of france is madrid", 3),
        ("animal_sounds/cow", "moo moo", 4),
        ("animal_sounds/cow", "the dog says moo", 3),
        ("animal_sounds/cow", "the cow says woof", 3),
        ("letters/cat", "cat has eleven letters", 3),
        ("manners/health", "i am well", 4),
        ("manners/health", "you are very welcome", 3),
        ("manners/health", "the sky is blue", 2),
    ],
)
def test_a_reply_has_the_grade_of_the_rubric(item_id: str, reply: str, expected: int) -> None:
    assert grade(reply, item_of(item_id)) == expected


def test_every_right_answer_is_exact_and_every_wrong_key_is_related() -> None:
    for item in all_items():
        assert grade(answer(item), item) == 5
        for key in wrong_keys(item):
            assert grade(family_of(item).sentence(item.slots, key), item) == 3


def test_the_key_alone_is_right_but_clumsy() -> None:
    for item in all_items():
        if item.family != "manners":
            assert grade(item.key, item) == 4


def test_an_answer_to_another_kind_of_question_is_never_right() -> None:
    for name in FAMILIES:
        item = family_items(name)[0]
        for other in all_items():
            if other.family != name:
                assert not is_correct(answer(other), item), (item.id, answer(other))


def test_saying_everything_is_not_right() -> None:
    item = item_of("add/seven/five")
    assert not is_correct("ten eleven twelve thirteen", item)
    assert not is_correct("twelve " * 100, item)
