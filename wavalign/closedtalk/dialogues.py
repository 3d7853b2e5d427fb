"""Dialogues of ClosedTalk as words: a pure function of split and index, with imperfect demonstrations.

The demonstrations are wrong on purpose, systematically and at random, so that a model trained on them is *uncertain*
rather than ignorant: it samples the right answer often enough for post-training to find and reinforce it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from wavalign.closedtalk.deliveries import REQUEST_PHRASES, Delivery, Tone, fitting_delivery
from wavalign.closedtalk.families import FAMILIES
from wavalign.closedtalk.world import (
    Item,
    answer,
    family_of,
    habitual_wrong_key,
    is_hard,
    learnable_items,
    stable_seed,
    unseen_items,
    wrong_keys,
)

SPLITS = ("train", "post_training", "validation", "held_out", "unseen_combinations")

# A hard item's demonstration: right, its one habitual mistake, another mistake (world.py says why). Half of an item's
# demonstrations agreeing on one mistake makes it the greedy answer; 40 % right keeps the right one in reach.
HARD_RIGHT, HARD_HABIT = 0.40, 0.50
EASY_RIGHT = 0.86

TURN_COUNTS, TURN_WEIGHTS = (1, 2, 3), (0.6, 0.3, 0.1)
TYPED_SHARE = 0.35
LATER_KINDS, LATER_WEIGHTS = ("follow_up", "redelivery", "question"), (0.55, 0.30, 0.15)
REQUEST_SHARE = {
    Delivery.HAPPY: 0.13,
    Delivery.SAD: 0.13,
    Delivery.EXCITED: 0.12,
    Delivery.CALM: 0.12,
    Delivery.NEUTRAL: 0.04,
}
IMPLICIT_SHARE = 0.26
# Sometimes the words ask for one delivery and the tone suggests another, so that the words are learned to win.
CONTRADICTION_SHARE = 0.15
HELD_OUT_PHRASING_SHARE = 0.5

QUESTION_WORDS = ("what", "which", "how", "who")
IMPERATIVES = ("add", "count")
QUESTION_PREFIXES = ("", "", "please tell me ", "hey ", "tell me ")
HELD_OUT_QUESTION_PREFIXES = ("do you know ", "can you say ")
IMPERATIVE_PREFIXES = ("", "please ", "hey ")
HELD_OUT_IMPERATIVE_PREFIXES = ("", "can you ")
REDELIVERIES = (
    "and {request}",
    "say it again {request}",
    "now {request}",
    "can you say it again {request}",
)
HELD_OUT_REDELIVERIES = ("and now {request}", "now say it {request}")

# Whole wordings (all user turns of a dialogue) are dealt to these splits by their hash, so that even typed dialogues,
# which have no voice to tell them apart, are in one split only.
_BUCKETS = {
    "train": range(70),
    "post_training": range(70, 84),
    "validation": range(84, 88),
    "held_out": range(88, 100),
}

Kind = Literal["question", "follow_up", "redelivery"]


@dataclass(frozen=True)
class TurnSpec:
    """One user turn and its reply, in words.

    ``delivery`` is the fitting one (``requested``, else what ``tone`` asks for). ``answer`` is the right reply,
    ``demonstration`` the imperfect one to train on, right when ``demonstration_item_ok``. A redelivery repeats the
    demonstration before it, mistakes included: it is asked to say the same again.
    """

    text: str
    tone: Tone
    item: Item
    kind: Kind
    requested: Delivery | None
    delivery: Delivery
    answer: str
    demonstration: str
    demonstration_item_ok: bool


@dataclass(frozen=True)
class DialogueSpec:
    """A dialogue in words. ``voice_seed`` chooses the user's voice and room; no two splits share one."""

    split: str
    index: int
    turns: tuple[TurnSpec, ...]
    typed: bool
    phrasing: Literal["seen", "unseen"]
    voice_seed: int


def dialogue_spec(split: str, index: int) -> DialogueSpec:
    """The dialogue number ``index`` (from 0) of a split; the same on every call and machine.

    Raises:
        ValueError: for an unknown split or a negative index.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {', '.join(SPLITS)}.")
    if index < 0:
        raise ValueError(f"A dialogue's index counts from 0, got {index}.")
    attempt = 0
    while not _belongs(spec := _draw(split, index, attempt)):
        attempt += 1
    return spec


def signature(spec: DialogueSpec) -> str:
    """What the user says, how, and in which voice: no two splits share one."""
    said = " | ".join(f"{turn.text} ({turn.tone})" for turn in spec.turns)
    return f"{said} @{'typed' if spec.typed else spec.voice_seed}"


def wording(spec: DialogueSpec) -> tuple[str, ...]:
    """The words of all user turns."""
    return tuple(turn.text for turn in spec.turns)


def _belongs(spec: DialogueSpec) -> bool:
    # Unseen phrasings and unseen combinations occur in no other split as they are.
    if spec.phrasing == "unseen" or spec.split == "unseen_combinations":
        return True
    return stable_seed("wording", *wording(spec)) % 100 in _BUCKETS[spec.split]


def _draw(split: str, index: int, attempt: int) -> DialogueSpec:
    rng = random.Random(stable_seed("dialogue", split, index, attempt))
    typed = rng.random() < TYPED_SHARE
    # Drawn apart from the attempt: unseen phrasings are never rejected, so they would crowd out the seen ones.
    phrasing_draw = random.Random(stable_seed("phrasing", split, index)).random()
    unseen_phrasing = split == "held_out" and phrasing_draw < HELD_OUT_PHRASING_SHARE
    turns: list[TurnSpec] = []
    for _ in range(rng.choices(TURN_COUNTS, TURN_WEIGHTS)[0]):
        turns.append(_turn(rng, split, typed, unseen_phrasing, turns[-1] if turns else None))
    voice_seed = SPLITS.index(split) * 10**9 + stable_seed("voice", split, index) % 10**9
    return DialogueSpec(split, index, tuple(turns), typed, "unseen" if unseen_phrasing else "seen", voice_seed)


def _turn(rng: random.Random, split: str, typed: bool, unseen_phrasing: bool, before: TurnSpec | None) -> TurnSpec:
    items = unseen_items if split == "unseen_combinations" else learnable_items
    kind: Kind = "question" if before is None else rng.choices(LATER_KINDS, LATER_WEIGHTS)[0]
    if kind == "follow_up" and not family_of(before.item).follow_ups:
        kind = "question"
    if kind == "redelivery":
        return _redelivery(rng, typed, unseen_phrasing, before)
    requested, tone = _delivery(rng, typed)
    if kind == "follow_up":
        item = rng.choice([item for item in items(before.item.family) if item != before.item])
        text = rng.choice(family_of(item).followed(item.slots, unseen_phrasing))
    else:
        names = [name for name in FAMILIES if items(name)]
        name = rng.choices(names, [FAMILIES[name].weight for name in names])[0]
        item = rng.choice(items(name))
        text = _prefixed(rng, rng.choice(FAMILIES[name].asked(item.slots, unseen_phrasing)), unseen_phrasing)
    if requested is not None:
        text = f"{text} {REQUEST_PHRASES[requested]}"
    demonstration = family_of(item).sentence(item.slots, _demonstrated_key(rng, item))
    return _spec(text, tone, item, kind, requested, demonstration)


def _redelivery(rng: random.Random, typed: bool, unseen_phrasing: bool, before: TurnSpec) -> TurnSpec:
    requested = rng.choice([delivery for delivery in Delivery if delivery != before.delivery])
    pattern = rng.choice(HELD_OUT_REDELIVERIES if unseen_phrasing else REDELIVERIES)
    tone = Tone.PLAIN if typed else _contradicting_tone(rng)
    text = pattern.format(request=REQUEST_PHRASES[requested])
    return _spec(text, tone, before.item, "redelivery", requested, before.demonstration)


def _spec(text: str, tone: Tone, item: Item, kind: Kind, requested: Delivery | None, demonstration: str) -> TurnSpec:
    right = answer(item)
    delivery = fitting_delivery(requested, tone)
    return TurnSpec(text, tone, item, kind, requested, delivery, right, demonstration, demonstration == right)


def _delivery(rng: random.Random, typed: bool) -> tuple[Delivery | None, Tone]:
    draw = rng.random()
    for delivery, share in REQUEST_SHARE.items():
        if draw < share:
            return delivery, Tone.PLAIN if typed else _contradicting_tone(rng)
        draw -= share
    if not typed and draw < IMPLICIT_SHARE:
        return None, rng.choice((Tone.SLOW_LOW, Tone.FAST_HIGH))
    return None, Tone.PLAIN


def _contradicting_tone(rng: random.Random) -> Tone:
    return rng.choice((Tone.SLOW_LOW, Tone.FAST_HIGH)) if rng.random() < CONTRADICTION_SHARE else Tone.PLAIN


def _prefixed(rng: random.Random, question: str, unseen_phrasing: bool) -> str:
    first = question.split()[0]
    if first in QUESTION_WORDS:
        return rng.choice(HELD_OUT_QUESTION_PREFIXES if unseen_phrasing else QUESTION_PREFIXES) + question
    if first in IMPERATIVES:
        return rng.choice(HELD_OUT_IMPERATIVE_PREFIXES if unseen_phrasing else IMPERATIVE_PREFIXES) + question
    return question


def _demonstrated_key(rng: random.Random, item: Item) -> str:
    draw = rng.random()
    if draw < (HARD_RIGHT if is_hard(item) else EASY_RIGHT):
        return item.key
    if not is_hard(item):
        return rng.choice(wrong_keys(item))
    habit = habitual_wrong_key(item)
    if draw < HARD_RIGHT + HARD_HABIT:
        return habit
    # A comparison has one wrong answer only, so there the other mistake is the habitual one.
    return rng.choice([key for key in wrong_keys(item) if key != habit] or [habit])
