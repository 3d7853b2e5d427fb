"""The question families of ClosedTalk, as data: phrasings, answer templates, plausible wrong answers.

Every word is lower-case and spelled out. In a phrasing ``{0}`` and ``{1}`` are the item's slots; in an answer template
``{key}`` is the answer and ``{other}`` the slot that is not the answer (for comparisons, so that a wrong answer is a
consistent sentence). Held-out phrasings use only words that training phrasings use in other places.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wavalign.closedtalk.facts import (
    BABIES,
    CAPITALS,
    COLOURS,
    DAYS,
    LEGS,
    LETTERS,
    MANNERS,
    MONTHS,
    NUMBERS,
    OPPOSITE_PAIRS,
    SIDES,
    SMALLER_PAIRS,
    SOUNDS,
)

Slots = tuple[str, ...]
Facts = tuple[tuple[Slots, str], ...]


@dataclass(frozen=True, eq=False)
class Family:
    """One kind of question. ``facts`` maps slots to the right key; ``weight`` is a relative sampling frequency."""

    name: str
    title: str
    weight: float
    facts: Facts
    template: str
    questions: tuple[str, ...]
    held_out_questions: tuple[str, ...]
    wrong_keys: Callable[[Slots, str], tuple[str, ...]]
    """Plausible wrong keys of a fact, never the right one, at least one."""
    follow_ups: tuple[str, ...] = ()
    held_out_follow_ups: tuple[str, ...] = ()
    cues: frozenset[str] = frozenset()
    """A loosely worded question needs one of these words to belong to the family."""
    by_slot: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Questions (training, held-out) by first slot, where they are not made from a pattern."""

    def asked(self, slots: Slots, held_out: bool) -> tuple[str, ...]:
        """The question phrasings of one fact, training or held-out."""
        if self.by_slot:
            return self.by_slot[slots[0]][held_out]
        patterns = self.held_out_questions if held_out else self.questions
        return tuple(pattern.format(*slots) for pattern in patterns)

    def followed(self, slots: Slots, held_out: bool) -> tuple[str, ...]:
        """The follow-up phrasings of one fact, training or held-out; empty for a family without."""
        patterns = self.held_out_follow_ups if held_out else self.follow_ups
        return tuple(pattern.format(*slots) for pattern in patterns)

    def sentence(self, slots: Slots, key: str) -> str:
        """The answer sentence with ``key`` in the answer's place."""
        other = next((slot for slot in slots if slot != key), key)
        return self.template.format(*slots, key=key, other=other)


def _near_numbers(slots: Slots, key: str) -> tuple[str, ...]:
    value = NUMBERS.index(key)
    return tuple(NUMBERS[n] for n in (value - 2, value - 1, value + 1, value + 2) if 0 <= n < len(NUMBERS))


def _near_numbers_besides_slots(slots: Slots, key: str) -> tuple[str, ...]:
    return tuple(word for word in _near_numbers(slots, key) if word not in slots)


def _swapped(slots: Slots, key: str) -> tuple[str, ...]:
    return tuple(slot for slot in slots if slot != key)


def _neighbours(cycle: tuple[str, ...]) -> Callable[[Slots, str], tuple[str, ...]]:
    def wrong(slots: Slots, key: str) -> tuple[str, ...]:
        place = cycle.index(key)
        near = [cycle[(place + step) % len(cycle)] for step in (-2, -1, 1, 2)]
        return tuple(word for word in near if word not in slots)

    return wrong


def _others(facts: Facts) -> Callable[[Slots, str], tuple[str, ...]]:
    keys = tuple(dict.fromkeys(key for _, key in facts))

    def wrong(slots: Slots, key: str) -> tuple[str, ...]:
        return tuple(word for word in keys if word != key and word not in slots)

    return wrong


def _table(table: dict[str, str]) -> Facts:
    return tuple(((name,), key) for name, key in table.items())


def _steps(cycle: tuple[str, ...], step: int) -> Facts:
    return tuple(((word,), cycle[(place + step) % len(cycle)]) for place, word in enumerate(cycle))


def _arithmetic() -> list[Family]:
    add = tuple(((NUMBERS[a], NUMBERS[b]), NUMBERS[a + b]) for a in range(1, 9) for b in range(1, 9))
    subtract = tuple(((NUMBERS[a], NUMBERS[b]), NUMBERS[a - b]) for a in range(2, 10) for b in range(1, a))
    return [
        Family(
            name="add",
            title="Sums",
            weight=0.18,
            facts=add,
            template="{0} plus {1} is {key}",
            questions=("what is {0} plus {1}", "how much is {0} plus {1}", "add {0} and {1}"),
            held_out_questions=("what does {0} plus {1} make",),
            follow_ups=("and {0} plus {1}", "what about {0} and {1}"),
            held_out_follow_ups=("and what about {0} plus {1}",),
            wrong_keys=_near_numbers,
            cues=frozenset(("plus", "add", "sum")),
        ),
        Family(
            name="subtract",
            title="Differences",
            weight=0.12,
            facts=subtract,
            template="{0} minus {1} is {key}",
            questions=("what is {0} minus {1}", "how much is {0} minus {1}", "what is {0} take away {1}"),
            held_out_questions=("how much is {0} take away {1}",),
            follow_ups=("and {0} minus {1}", "what about {0} take away {1}"),
            held_out_follow_ups=("and what about {0} minus {1}",),
            wrong_keys=_near_numbers,
            cues=frozenset(("minus", "away", "subtract", "less")),
        ),
    ]


def _comparisons() -> list[Family]:
    bigger = tuple(((NUMBERS[a], NUMBERS[b]), NUMBERS[max(a, b)]) for a in range(1, 7) for b in range(1, 7) if a != b)
    smaller = tuple(
        ((NUMBERS[x], NUMBERS[y]), NUMBERS[min(a, b)]) for a, b in SMALLER_PAIRS for x, y in ((a, b), (b, a))
    )

    def family(name: str, title: str, weight: float, facts: Facts) -> Family:
        return Family(
            name=name,
            title=title,
            weight=weight,
            facts=facts,
            template=f"{{key}} is {name} than {{other}}",
            questions=(
                f"which is {name} {{0}} or {{1}}",
                f"which number is {name} {{0}} or {{1}}",
                f"what is {name} {{0}} or {{1}}",
            ),
            held_out_questions=(f"{{0}} or {{1}} which is {name}",),
            follow_ups=("and {0} or {1}", "what about {0} or {1}"),
            held_out_follow_ups=("and what about {0} or {1}",),
            wrong_keys=_swapped,
            cues=frozenset((name, "larger" if name == "bigger" else "less")),
        )

    return [
        family("bigger", "The bigger number", 0.07, bigger),
        family("smaller", "The smaller number", 0.05, smaller),
    ]


def _order() -> list[Family]:
    after = tuple(((NUMBERS[n],), NUMBERS[n + 1]) for n in (1, 2, 3, 5, 7, 9, 11, 13, 15, 17, 19))
    before = tuple(((NUMBERS[n],), NUMBERS[n - 1]) for n in (2, 4, 6, 8, 10, 12, 14, 16, 18, 20))
    rows = [
        ("number", "after", 0.04, after, _near_numbers_besides_slots),
        ("number", "before", 0.04, before, _near_numbers_besides_slots),
        ("day", "after", 0.05, _steps(DAYS, 1), _neighbours(DAYS)),
        ("day", "before", 0.05, _steps(DAYS, -1), _neighbours(DAYS)),
        ("month", "after", 0.055, _steps(MONTHS, 1), _neighbours(MONTHS)),
        ("month", "before", 0.055, _steps(MONTHS, -1), _neighbours(MONTHS)),
    ]
    return [
        Family(
            name=f"{unit}_{side}",
            title=f"The {unit} {side}",
            weight=weight,
            facts=facts,
            template=f"{{key}} comes {side} {{0}}",
            questions=(
                f"what {unit} comes {side} {{0}}",
                f"which {unit} is {side} {{0}}",
                f"what comes {side} {{0}}",
            ),
            held_out_questions=(f"which {unit} comes {side} {{0}}",),
            follow_ups=("and {0}", "what about {0}"),
            held_out_follow_ups=("and what about {0}",),
            wrong_keys=wrong,
            cues=frozenset((side, "follows" if side == "after" else "precedes")),
        )
        for unit, side, weight, facts, wrong in rows
    ]


def _words() -> list[Family]:
    opposites = tuple(((x,), y) for pair in OPPOSITE_PAIRS for x, y in (pair, pair[::-1]))
    return [
        Family(
            name="capitals",
            title="Capitals",
            weight=0.10,
            facts=_table(CAPITALS),
            template="the capital of {0} is {key}",
            questions=(
                "what is the capital of {0}",
                "which city is the capital of {0}",
                "do you know the capital of {0}",
            ),
            held_out_questions=("what is the name of the capital of {0}",),
            follow_ups=("and {0}", "what about {0}"),
            held_out_follow_ups=("and what about {0}",),
            wrong_keys=_others(_table(CAPITALS)),
            cues=frozenset(("capital",)),
        ),
        Family(
            name="opposites",
            title="Opposites",
            weight=0.11,
            facts=opposites,
            template="the opposite of {0} is {key}",
            questions=(
                "what is the opposite of {0}",
                "which word is the opposite of {0}",
                "do you know the opposite of {0}",
            ),
            held_out_questions=("what word is the opposite of {0}",),
            follow_ups=("and {0}", "what about {0}"),
            held_out_follow_ups=("and what about {0}",),
            wrong_keys=_others(opposites),
            cues=frozenset(("opposite",)),
        ),
        Family(
            name="letters",
            title="Letters of a word",
            weight=0.045,
            facts=_table(LETTERS),
            template="{0} has {key} letters",
            questions=("how many letters are in {0}", "how many letters does {0} have", "count the letters of {0}"),
            held_out_questions=("what number of letters does {0} have",),
            follow_ups=("and {0}", "what about {0}"),
            held_out_follow_ups=("and what about {0}",),
            wrong_keys=_near_numbers,
            cues=frozenset(("letters", "letter")),
        ),
    ]


def _things() -> list[Family]:
    the = ("and the {0}", "what about the {0}")
    held_out_the = ("and what about the {0}",)
    return [
        Family(
            name="animal_sounds",
            title="Animal sounds",
            weight=0.06,
            facts=_table(SOUNDS),
            template="the {0} says {key}",
            questions=("what does the {0} say", "what sound does the {0} make", "which sound does a {0} make"),
            held_out_questions=("what is the sound of the {0}",),
            follow_ups=the,
            held_out_follow_ups=held_out_the,
            wrong_keys=_others(_table(SOUNDS)),
            cues=frozenset(("say", "sound", "says", "noise")),
        ),
        Family(
            name="colours",
            title="Colours",
            weight=0.06,
            facts=_table(COLOURS),
            template="the {0} is {key}",
            questions=("what colour is the {0}", "which colour does the {0} have", "what is the colour of the {0}"),
            held_out_questions=("which colour is the {0}",),
            follow_ups=the,
            held_out_follow_ups=held_out_the,
            wrong_keys=_others(_table(COLOURS)),
            cues=frozenset(("colour",)),
        ),
        Family(
            name="legs",
            title="Legs",
            weight=0.05,
            facts=_table(LEGS),
            template="the {0} has {key} legs",
            questions=("how many legs does the {0} have", "how many legs has the {0}", "count the legs of the {0}"),
            held_out_questions=("what number of legs does the {0} have",),
            follow_ups=the,
            held_out_follow_ups=held_out_the,
            wrong_keys=_others(_table(LEGS)),
            cues=frozenset(("legs", "leg")),
        ),
        Family(
            name="sides",
            title="Sides of a shape",
            weight=0.04,
            facts=_table(SIDES),
            template="the {0} has {key} sides",
            questions=("how many sides does the {0} have", "how many sides has the {0}", "count the sides of the {0}"),
            held_out_questions=("what number of sides does the {0} have",),
            follow_ups=the,
            held_out_follow_ups=held_out_the,
            wrong_keys=_others(_table(SIDES)),
            cues=frozenset(("sides", "side")),
        ),
        Family(
            name="baby_animals",
            title="Baby animals",
            weight=0.05,
            facts=_table(BABIES),
            template="a baby {0} is a {key}",
            questions=(
                "what is a baby {0} called",
                "what do you call a baby {0}",
                "what is the name of a baby {0}",
            ),
            held_out_questions=("what name does a baby {0} have",),
            follow_ups=("and a {0}", "what about a baby {0}"),
            held_out_follow_ups=("and what about a {0}",),
            wrong_keys=_others(_table(BABIES)),
            cues=frozenset(("baby",)),
        ),
    ]


def _manners() -> Family:
    facts = tuple(((name,), reply) for name, (reply, _, _) in MANNERS.items())
    return Family(
        name="manners",
        title="Manners",
        weight=0.03,
        facts=facts,
        template="{key}",
        questions=(),
        held_out_questions=(),
        wrong_keys=_others(facts),
        by_slot={name: (training, held_out) for name, (_, training, held_out) in MANNERS.items()},
    )


FAMILIES: dict[str, Family] = {
    family.name: family for family in (*_arithmetic(), *_comparisons(), *_order(), *_words(), *_things(), _manners())
}
