"""The closed lexicon: every word a user turn or a reply may contain, and word strings that use them all equally."""

from __future__ import annotations

import random
from functools import cache

from wavalign.closedtalk.deliveries import REQUEST_PHRASES
from wavalign.closedtalk.dialogues import (
    HELD_OUT_IMPERATIVE_PREFIXES,
    HELD_OUT_QUESTION_PREFIXES,
    HELD_OUT_REDELIVERIES,
    IMPERATIVE_PREFIXES,
    QUESTION_PREFIXES,
    REDELIVERIES,
)
from wavalign.closedtalk.world import Item, all_items, answer, family_of, stable_seed, wrong_keys


def texts_of(item: Item) -> tuple[str, ...]:
    """Everything that may be asked about an item or said in reply, in all phrasings, right and wrong."""
    family = family_of(item)
    return (
        *(text for held_out in (False, True) for text in family.asked(item.slots, held_out)),
        *(text for held_out in (False, True) for text in family.followed(item.slots, held_out)),
        answer(item),
        *(family.sentence(item.slots, key) for key in wrong_keys(item)),
    )


@cache
def lexicon() -> tuple[str, ...]:
    """All words, sorted."""
    around = (
        *QUESTION_PREFIXES,
        *HELD_OUT_QUESTION_PREFIXES,
        *IMPERATIVE_PREFIXES,
        *HELD_OUT_IMPERATIVE_PREFIXES,
        *(pattern.replace("{request}", "") for pattern in (*REDELIVERIES, *HELD_OUT_REDELIVERIES)),
        *REQUEST_PHRASES.values(),
    )
    texts = (*around, *(text for item in all_items() for text in texts_of(item)))
    return tuple(sorted({word for text in texts for word in text.split()}))


def balanced_word_strings(seed: int, count: int, words_per_string: int) -> list[str]:
    """``count`` random strings of ``words_per_string`` words in which every word of the lexicon is equally frequent.

    Words are dealt from shuffled decks, so that any two frequencies differ by at most one.
    """
    rng = random.Random(stable_seed("balanced", seed))
    dealt: list[str] = []
    while len(dealt) < count * words_per_string:
        deck = list(lexicon())
        rng.shuffle(deck)
        dealt.extend(deck)
    starts = range(0, count * words_per_string, words_per_string)
    return [" ".join(dealt[start : start + words_per_string]) for start in starts]
