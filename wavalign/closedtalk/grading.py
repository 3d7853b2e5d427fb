"""How good a reply's words are: a rule, from 1 to 5."""

from __future__ import annotations

import string
from collections import Counter
from functools import cache

from wavalign.closedtalk.facts import NUMBERS
from wavalign.closedtalk.families import FAMILIES, Family
from wavalign.closedtalk.normalising import normalise_typed
from wavalign.closedtalk.world import Item, answer, family_of

EXACT, CLUMSY, RELATED, OFF_TOPIC, EMPTY = 5, 4, 3, 2, 1

# "well I think the answer is twelve" is still an answer; a speech around the word is not.
MOST_EXTRA_WORDS = 6
LONGEST_MULTIPLE = 3
# Families whose answer and question share one vocabulary: there the order of the words carries the meaning ("june comes
# after july" against "july comes after june"). True: the key comes first among them; False: last.
KEY_FIRST = {
    "add": False,
    "subtract": False,
    "bigger": True,
    "smaller": True,
    "number_after": True,
    "number_before": True,
    "day_after": True,
    "day_before": True,
    "month_after": True,
    "month_before": True,
}


def grade(reply_text: str, item: Item) -> int:
    """The reply's grade for an item, by these rubrics (case, punctuation and digits do not matter):

    - 5 exact: the answer, word for word ("seven plus five is twelve").
    - 4 right but clumsy: the right key, and nothing that contradicts it, but words are missing, repeated or added
      ("twelve", "it is twelve", "seven plus plus five is twelve").
    - 3 related: an answer of the right kind that is wrong, because its key is wrong ("seven plus five is eleven") or
      its echo of the question is ("seven plus four is twelve").
    - 2 off-topic: words that do not answer this kind of question ("the cow says moo").
    - 1 empty: no words.
    """
    words = normalise_typed(reply_text).split()
    if not words:
        return EMPTY
    if words == answer(item).split():
        return EXACT
    if item.family == "manners":
        return _grade_manners(words, item)
    family = family_of(item)
    if _is_right(words, item, family):
        return CLUMSY
    return RELATED if _is_related(words, family) else OFF_TOPIC


def is_correct(reply_text: str, item: Item) -> bool:
    """Whether the reply answers the question rightly, elegantly or not (grade 4 or 5)."""
    return grade(reply_text, item) >= CLUMSY


def _is_right(words: list[str], item: Item, family: Family) -> bool:
    expected = answer(item).split()
    if item.key not in words or len(words) > max(LONGEST_MULTIPLE * len(expected), MOST_EXTRA_WORDS + 1):
        return False
    extra = set(words) - set(expected)
    if extra & (_vocabulary(family) | _content_words() | _all_fixed()) or len(extra) > MOST_EXTRA_WORDS:
        return False
    said = [word for word in words if word in _vocabulary(family)]
    if set(said) == {item.key} and item.key not in item.slots:
        return True
    # "six minus three" repeats the question; its answer, three, was not said.
    if set(said) != {item.key} and said.count(item.key) < expected.count(item.key):
        return False
    if item.family not in KEY_FIRST or set(said) == {item.key}:
        return True
    if KEY_FIRST[item.family]:
        return said[0] == item.key
    return said[-1] == item.key or words[:2] == [item.key, "is"]


def _is_related(words: list[str], family: Family) -> bool:
    """Whether it is an answer of the family's kind: its keys alone, or in at least half of the answer's fixed words."""
    if not set(words) & _possible_keys(family):
        return False
    foreign = [word for word in words if word not in _vocabulary(family) and word not in _fixed(family)]
    if len(foreign) == 0 and len(words) <= 2:
        return True
    fixed = _fixed(family)
    contradicting = [word for word in foreign if word in _content_words() | _all_fixed()]
    return 2 * len(fixed & set(words)) >= len(fixed) and len(contradicting) <= 1 and len(foreign) <= MOST_EXTRA_WORDS


def _grade_manners(words: list[str], item: Item) -> int:
    likeness = {key: _overlap(words, key.split()) for key in _keys(family_of(item))}
    best = max(likeness, key=likeness.__getitem__)
    if likeness[best] < 0.6:
        return OFF_TOPIC
    return CLUMSY if best == item.key else RELATED


def _overlap(words: list[str], expected: list[str]) -> float:
    """Dice coefficient of the two bags of words, 0 to 1."""
    common = (Counter(words) & Counter(expected)).total()
    return 2 * common / (len(words) + len(expected))


@cache
def _keys(family: Family) -> frozenset[str]:
    return frozenset(key for _, key in family.facts)


@cache
def _possible_keys(family: Family) -> frozenset[str]:
    """Everything that is an answer of the family's kind: where one answer is a number, every number is."""
    wrong = frozenset(word for slots, key in family.facts for word in family.wrong_keys(slots, key))
    possible = _keys(family) | wrong
    return possible | frozenset(NUMBERS) if possible & frozenset(NUMBERS) else possible


@cache
def _vocabulary(family: Family) -> frozenset[str]:
    """Every word that can fill a slot or the key's place."""
    return _possible_keys(family) | frozenset(word for slots, _ in family.facts for word in slots)


@cache
def _fixed(family: Family) -> frozenset[str]:
    """The words of the answer template itself."""
    parts = (text for text, *_ in string.Formatter().parse(family.template))
    return frozenset(" ".join(parts).split())


@cache
def _content_words() -> frozenset[str]:
    vocabularies = (_vocabulary(family) for family in FAMILIES.values() if family.name != "manners")
    return frozenset().union(*vocabularies)


@cache
def _all_fixed() -> frozenset[str]:
    """Template words that tell one family from another; articles and the like say nothing."""
    return frozenset().union(*(_fixed(family) for family in FAMILIES.values())) - {"is", "the", "a", "of", "has"}
