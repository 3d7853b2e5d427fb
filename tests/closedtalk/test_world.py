"""The closed world: its facts, its families, its lexicon."""

from __future__ import annotations

from collections import Counter

import pytest

from wavalign.closedtalk import all_items, answer, balanced_word_strings, is_hard, is_unseen, item_of, lexicon
from wavalign.closedtalk.families import FAMILIES
from wavalign.closedtalk.lexicon import texts_of
from wavalign.closedtalk.world import HARD_SHARE, family_items, family_of, habitual_wrong_key, wrong_keys


@pytest.mark.parametrize(
    ("item_id", "reply"),
    [
        ("add/seven/five", "seven plus five is twelve"),
        ("subtract/nine/two", "nine minus two is seven"),
        ("bigger/two/five", "five is bigger than two"),
        ("smaller/four/one", "one is smaller than four"),
        ("number_after/nineteen", "twenty comes after nineteen"),
        ("day_before/monday", "sunday comes before monday"),
        ("month_after/december", "january comes after december"),
        ("capitals/france", "the capital of france is paris"),
        ("opposites/cold", "the opposite of cold is hot"),
        ("letters/chocolate", "chocolate has nine letters"),
        ("animal_sounds/cow", "the cow says moo"),
        ("colours/sky", "the sky is blue"),
        ("legs/spider", "the spider has eight legs"),
        ("sides/hexagon", "the hexagon has six sides"),
        ("baby_animals/cat", "a baby cat is a kitten"),
        ("manners/thanks", "you are very welcome"),
    ],
)
def test_answers_echo_the_question(item_id: str, reply: str) -> None:
    assert answer(item_of(item_id)) == reply


def test_the_world_is_broad_and_small() -> None:
    assert len(FAMILIES) >= 12
    assert len(all_items()) == 300
    assert len({item.id for item in all_items()}) == 300
    assert len(lexicon()) <= 330


def test_letters_are_counted_right() -> None:
    number = {"three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "nine": 9}
    assert all(len(item.slots[0]) == number[item.key] for item in family_items("letters"))


def test_answers_have_three_to_seven_words() -> None:
    assert {len(answer(item).split()) for item in all_items()} <= set(range(3, 8))


def test_every_family_has_training_and_held_out_phrasings_and_they_differ() -> None:
    training = {text for item in all_items() for text in family_of(item).asked(item.slots, False)}
    for item in all_items():
        family = family_of(item)
        assert len(family.asked(item.slots, False)) >= 3
        assert len(family.asked(item.slots, True)) >= 1
        assert not training & set(family.asked(item.slots, True))
        assert family.name == "manners" or family.followed(item.slots, False)


def test_no_question_means_two_things() -> None:
    meanings: dict[str, set[str]] = {}
    for item in all_items():
        for held_out in (False, True):
            for text in family_of(item).asked(item.slots, held_out):
                meanings.setdefault(text, set()).add(item.id)
    assert [text for text, ids in meanings.items() if len(ids) > 1] == []


def test_held_out_phrasings_use_only_words_of_training_dialogues() -> None:
    from wavalign.closedtalk import dialogue_spec

    heard = Counter(
        word
        for index in range(4000)
        for turn in dialogue_spec("train", index).turns
        for word in f"{turn.text} {turn.demonstration}".split()
    )
    assert set(heard) == set(lexicon())


def test_every_possible_text_is_made_of_lexicon_words() -> None:
    words = {word for item in all_items() for text in texts_of(item) for word in text.split()}
    assert words <= set(lexicon())
    assert all(word.isalpha() and word.islower() for word in lexicon())


def test_wrong_answers_are_wrong_and_make_consistent_sentences() -> None:
    for item in all_items():
        assert wrong_keys(item)
        for key in wrong_keys(item):
            assert key != item.key
            assert family_of(item).sentence(item.slots, key) != answer(item)
    assert family_of(item_of("bigger/two/five")).sentence(("two", "five"), "two") == "two is bigger than five"
    assert wrong_keys(item_of("day_after/monday")) == ("sunday", "wednesday", "thursday")


def test_about_a_third_of_every_family_is_hard() -> None:
    for name in FAMILIES:
        items = family_items(name)
        assert sum(map(is_hard, items)) == round(HARD_SHARE * len(items))
        assert all(habitual_wrong_key(item) in wrong_keys(item) for item in items)


def test_unseen_combinations_are_a_tenth_and_leave_no_mirror_image_behind() -> None:
    unseen = [item for item in all_items() if is_unseen(item)]
    assert 0.08 < len(unseen) / 130 < 0.14
    assert {item.family for item in unseen} == {"add", "subtract", "bigger"}
    for item in unseen:
        if item.family != "subtract":
            assert is_unseen(item_of("/".join((item.family, *item.slots[::-1]))))


def test_an_unknown_item_id_is_named() -> None:
    with pytest.raises(KeyError, match="add/ninety/one"):
        item_of("add/ninety/one")


def test_balanced_word_strings_use_every_word_equally_often() -> None:
    strings = balanced_word_strings(seed=3, count=600, words_per_string=5)
    assert len(strings) == 600
    assert {len(text.split()) for text in strings} == {5}
    counts = Counter(word for text in strings for word in text.split())
    assert set(counts) == set(lexicon())
    assert max(counts.values()) - min(counts.values()) <= 1
    assert strings == balanced_word_strings(3, 600, 5)
    assert strings != balanced_word_strings(4, 600, 5)
