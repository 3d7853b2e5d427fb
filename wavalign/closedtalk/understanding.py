"""What a turn means in the closed world: from a transcript or typed text to a question, or None when it is outside."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.dialogues import (
    HELD_OUT_IMPERATIVE_PREFIXES,
    HELD_OUT_QUESTION_PREFIXES,
    IMPERATIVE_PREFIXES,
    QUESTION_PREFIXES,
    Kind,
)
from wavalign.closedtalk.facts import CAPITALS, DAYS, MONTHS, NUMBERS
from wavalign.closedtalk.families import FAMILIES, Family
from wavalign.closedtalk.lexicon import lexicon
from wavalign.closedtalk.normalising import normalise_typed
from wavalign.closedtalk.world import Item, all_items, family_of, find, item_of, learnable_items

# A turn of the world has about fifteen words; far longer texts are outside it, and not worth searching.
LONGEST_TURN = 40
MOST_UNKNOWN_WORDS = 3
# Letters that must agree for an unknown word to be read as a misspelt or misheard word of the lexicon.
SPELLING_LIKENESS = 0.84

_DELIVERY_WORDS = {
    "happy": Delivery.HAPPY,
    "happily": Delivery.HAPPY,
    "cheerful": Delivery.HAPPY,
    "sad": Delivery.SAD,
    "sadly": Delivery.SAD,
    "excited": Delivery.EXCITED,
    "excitedly": Delivery.EXCITED,
    "calm": Delivery.CALM,
    "calmly": Delivery.CALM,
    "normal": Delivery.NEUTRAL,
    "normally": Delivery.NEUTRAL,
    "neutral": Delivery.NEUTRAL,
}
_POLITE = frozenset(("please", "hey", "okay", "um", "uh", "well", "so", "thanks"))
_AGAIN = frozenset(("again", "repeat"))
_REPEATING = (
    "and now then say it that the same thing me tell can could you do once more one time but about what how with"
)
_REDELIVERY_WORDS = _AGAIN | frozenset(_REPEATING.split())
_FOLLOWING = (
    "and now then what how about for with the a an or plus minus take away of in is it to but does do me tell can you"
)
_FOLLOWED = "say baby number word day month country animal please"
_FOLLOW_UP_WORDS = frozenset((*_FOLLOWING.split(), *_FOLLOWED.split()))


@dataclass(frozen=True)
class Question:
    """What a user turn asks: the item, the delivery its words request (None: they request none), and how it asks."""

    item: Item
    requested: Delivery | None
    kind: Kind


def understand(text: str, history: Sequence[Question] = ()) -> Question | None:
    """The question that a transcript or typed text asks, given the questions before it; None when outside the world.

    Tolerant of case, punctuation, digits, politeness and slightly different wording. Never guesses: a sum out of range
    or an unknown country is outside.
    """
    words = [_mended(word) for word in normalise_typed(text).split()]
    if not words or len(words) > LONGEST_TURN:
        return None
    words, requested = _without_request(words)
    if requested is None and _is_redelivery_request(words):
        words, requested = _without_delivery_word(words)
    words = _without_politeness(words)
    item = _exact_question(words)
    if item is not None:
        return Question(item, requested, "question")
    for before in reversed(history):
        item = _exact_follow_up(words, family_of(before.item))
        if item is not None:
            return Question(item, requested, "follow_up")
    item = _loose_question(words)
    if item is not None:
        return Question(item, requested, "question")
    for before in reversed(history):
        item = _loose_follow_up(words, family_of(before.item))
        if item is not None:
            return Question(item, requested, "follow_up")
    repeats = set(words) <= _REDELIVERY_WORDS and (requested is not None or bool(set(words) & _AGAIN))
    if history and repeats:
        return Question(history[-1].item, requested, "redelivery")
    return None


def unknown_words(text: str) -> tuple[str, ...]:
    """The words of a text that the closed world does not have, each once, in order."""
    known = set(lexicon())
    return tuple(dict.fromkeys(word for word in normalise_typed(text).split() if word not in known))


def in_sentence_case(text: str, end: str = ".") -> str:
    """Words of the world as a person would write them: ``"The capital of France is Paris."``"""
    words = [word.capitalize() if word in _proper_names() or word == "i" else word for word in text.split()]
    written = " ".join(words)
    return f"{written[:1].upper()}{written[1:]}{end}" if written else ""


def describe_world() -> list[tuple[str, tuple[str, str]]]:
    """What can be talked about: each family's title and two example questions, written as a person would."""
    described = []
    for family in FAMILIES.values():
        slots = [item.slots for item in learnable_items(family.name)]
        first, second = slots[len(slots) // 3], slots[2 * len(slots) // 3]
        questions = (family.asked(first, False)[0], family.asked(second, False)[-1])
        described.append((family.title, tuple(in_sentence_case(question, _end(question)) for question in questions)))
    return described


def _end(question: str) -> str:
    return "?" if question.split()[0] in ("what", "which", "how", "who", "do", "are") else "."


@cache
def _proper_names() -> frozenset[str]:
    return frozenset((*CAPITALS, *CAPITALS.values(), *DAYS, *MONTHS))


@cache
def _mended(word: str) -> str:
    """A plural, misspelt or misheard word as the word of the lexicon that it stands for, else itself."""
    known = lexicon()
    if word in known or word in _DELIVERY_WORDS or len(word) > 20:
        return word
    if word.endswith("s") and word[:-1] in known:
        return word[:-1]
    # "eighty" is no misspelt "eight", "sixty" no "six".
    near = difflib.get_close_matches(word, [w for w in known if w not in NUMBERS], 1, SPELLING_LIKENESS)
    return near[0] if near and len(word) >= 4 else word


def _without_request(words: list[str]) -> tuple[list[str], Delivery | None]:
    """Takes "in a happy voice" (or "with a happy tone", "happily") out of the words."""
    for place, word in enumerate(words):
        delivery = _DELIVERY_WORDS.get(word)
        if delivery is None:
            continue
        after = words[place + 1 : place + 2]
        adverb = word.endswith("ly")
        if not adverb and after not in (["voice"], ["tone"], ["way"], ["mood"]):
            continue
        start = place
        while start > 0 and words[start - 1] in ("a", "an", "in", "with", "very", "more"):
            start -= 1
        end = place + 1 if adverb else place + 2
        return words[:start] + words[end:], delivery
    return words, None


def _is_redelivery_request(words: list[str]) -> bool:
    rest = [word for word in words if word not in _DELIVERY_WORDS and word not in _POLITE]
    return any(word in _DELIVERY_WORDS for word in words) and set(rest) <= _REDELIVERY_WORDS | {
        "be",
        "sound",
        "a",
        "an",
        "in",
        "more",
    }


def _without_delivery_word(words: list[str]) -> tuple[list[str], Delivery]:
    delivery = next(_DELIVERY_WORDS[word] for word in words if word in _DELIVERY_WORDS)
    return [word for word in words if word in _REDELIVERY_WORDS], delivery


def _without_politeness(words: list[str]) -> list[str]:
    while words and words[-1] == "please":
        words = words[:-1]
    return words


@cache
def _questions() -> dict[str, Item]:
    """Every phrasing of every item, without prefixes."""
    return {
        text: item
        for item in all_items()
        for held_out in (False, True)
        for text in family_of(item).asked(item.slots, held_out)
    }


@cache
def _prefixes() -> tuple[str, ...]:
    every = (*QUESTION_PREFIXES, *HELD_OUT_QUESTION_PREFIXES, *IMPERATIVE_PREFIXES, *HELD_OUT_IMPERATIVE_PREFIXES)
    return tuple(sorted(set(every), key=len, reverse=True))


def _exact_question(words: list[str]) -> Item | None:
    text = " ".join(words)
    for prefix in _prefixes():
        if text.startswith(prefix) and text[len(prefix) :] in _questions():
            return _questions()[text[len(prefix) :]]
    return None


@cache
def _follow_ups(name: str) -> dict[str, str]:
    family = FAMILIES[name]
    return {
        text: "/".join((name, *slots))
        for slots, _ in family.facts
        for held_out in (False, True)
        for text in family.followed(slots, held_out)
    }


def _exact_follow_up(words: list[str], family: Family) -> Item | None:
    item_id = _follow_ups(family.name).get(" ".join(words))
    return item_of(item_id) if item_id else None


@cache
def _slot_words(name: str) -> frozenset[str]:
    family = FAMILIES[name]
    words = frozenset(word for slots, _ in family.facts for word in slots)
    # Any number word counts, so that "nine plus nine" is seen to be out of range.
    return words | frozenset(NUMBERS) if words & frozenset(NUMBERS) else words


def _slots_in(words: list[str], family: Family) -> Item | None:
    """The item whose slots are exactly the family's slot words in the text, in order."""
    said = tuple(word for word in words if word in _slot_words(family.name))
    if "subtract" in words and "from" in words:
        said = said[::-1]
    return find(family.name, said)


def _loose_question(words: list[str]) -> Item | None:
    """The item of the family whose cue is in the text and whose phrasing is nearest."""
    words = _without_which_one(words)
    if sum(word not in lexicon() for word in words if word not in _all_cues() | _POLITE) > MOST_UNKNOWN_WORDS:
        return None
    candidates = list(_loose_candidates(words))
    if not candidates:
        return None
    return min(candidates, key=lambda item: min(_distance(words, text.split()) for text in _phrasings(item)))


def _loose_candidates(words: list[str]) -> Iterator[Item]:
    for family in FAMILIES.values():
        if family.cues & set(words):
            item = _slots_in(words, family)
            if item is not None:
                yield item


def _without_which_one(words: list[str]) -> list[str]:
    return " ".join(words).replace("which one", "which").replace("the one", "the").split()


@cache
def _all_cues() -> frozenset[str]:
    return frozenset().union(*(family.cues for family in FAMILIES.values()))


def _phrasings(item: Item) -> tuple[str, ...]:
    family = family_of(item)
    return family.asked(item.slots, False) + family.asked(item.slots, True)


def _distance(words: list[str], others: list[str]) -> int:
    """Word edit distance."""
    row = list(range(len(others) + 1))
    for i, word in enumerate(words, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(others, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (word != other))
    return row[-1]


def _loose_follow_up(words: list[str], family: Family) -> Item | None:
    rest = [word for word in words if word not in _slot_words(family.name)]
    if not set(rest) <= _FOLLOW_UP_WORDS | family.cues:
        return None
    return _slots_in(words, family)
