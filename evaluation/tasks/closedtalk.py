"""ClosedTalk's held-out dialogues: is the answer right, is it right as heard, and is it spoken in the fitting way?

The split has unseen voices, half of them in unseen phrasings. Everything is scored by rule: words by
``wavalign.closedtalk.grading``, delivery against the reference renderings (``wavalign.closedtalk.delivery``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from evaluation.tasks.items import Entry, Items, spread
from evaluation.tasks.protocol import Item, MetricInfo, Said, Scored, TaskContext, TaskError
from wavalign.closedtalk.deliveries import Delivery, Tone
from wavalign.closedtalk.delivery import DeliveryError, DeliveryReferences
from wavalign.closedtalk.grading import CLUMSY, grade
from wavalign.closedtalk.world import item_of
from wavalign.metrics.measures import measure
from wavalign.training.data import load_examples
from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError, Examples

SPLIT = "held_out"
REFERENCES_FILE = "closedtalk-references.json"
SPLITS = ("held_out", "validation", "unseen_combinations")


class ClosedTalk:
    """``part`` is the split, by default the held-out one; ``data["closedtalk"]`` may name another folder of splits."""

    name = "closedtalk"
    metrics = (
        MetricInfo("correct", "%", 0, 1, "higher", "by rule, of the text channel: a right answer, elegant or not"),
        MetricInfo("grade", "", 1, 5, "higher", "5 word for word, 4 clumsy, 3 wrong of its kind, 2 off-topic, 1 empty"),
        MetricInfo(
            "correct_heard",
            "%",
            0,
            1,
            "higher",
            "the same rule on the words recognised in the speech: also low where the recogniser errs",
        ),
        MetricInfo(
            "delivery",
            "%",
            0,
            1,
            "higher",
            "the nearest of five reference deliveries is the fitting one; pitch, its spread, rate and level only, so a "
            "reply can pass without sounding natural, and very short ones are hard to tell apart",
        ),
    )
    breakdowns = ("delivery", "asking", "phrasing")
    needs = frozenset({"transcript", "waveform"})

    def __init__(self, context: TaskContext, part: str | None = None) -> None:
        self._context = context
        self._split = part or SPLIT
        if self._split not in SPLITS:
            raise TaskError(f'closedtalk has no split "{part}" to evaluate on; it has: {", ".join(SPLITS)}.')
        if part:
            self.name = f"closedtalk/{part}"

    def items(self, limit: int | None = None, seed: int = 0) -> Items:
        entries = [Entry(id_, family, partial(self._item, id_)) for id_, family in self._families]
        return spread(entries, limit, seed, even=False)

    def score(self, pairs: Sequence[tuple[Item, Said]]) -> list[Scored]:
        return [self._score(item, said) for item, said in pairs]

    def summary(self, rows: Sequence[tuple[Item, Scored]]) -> Mapping[str, float]:
        """None is official; the means say it all."""
        return {}

    def judges(self) -> Mapping[str, Any]:
        return {}

    def _score(self, item: Item, said: Said) -> Scored:
        asked = item_of(item.facts["item"])
        words = grade(said.text, asked)
        values: dict[str, float | None] = {
            "correct": float(words >= CLUMSY),
            "grade": float(words),
            "correct_heard": None,
            "delivery": None,
        }
        about: dict[str, Any] = {"answer": item.facts["answer"], "wanted": item.facts["delivery"]}
        if said.transcript is not None:
            values["correct_heard"] = float(grade(said.transcript, asked) >= CLUMSY)
        if said.waveform is not None:
            measures = measure(said.waveform, said.text)
            adherence = self._references.adherence_of(measures, Delivery(item.facts["delivery"]))
            values["delivery"] = float(adherence.right)
            about["nearest"] = adherence.nearest.value if adherence.nearest else None
        return Scored(values, about=about)

    @cached_property
    def _examples(self) -> Examples:
        folder = self._context.data.get("closedtalk")
        try:
            return load_examples(DataConfig(split=self._split, path=folder, shuffle=False), self._context.assets)
        except DataError as error:
            raise TaskError(str(error)) from error

    @cached_property
    def _places(self) -> dict[str, int]:
        return {id_: place for place, id_ in enumerate(self._examples.ids)}

    @cached_property
    def _families(self) -> list[tuple[str, str]]:
        return [(example.id, str(example.facts["family"])) for example in self._examples]

    @cached_property
    def _references(self) -> DeliveryReferences:
        try:
            return DeliveryReferences.load(self._context.assets / REFERENCES_FILE)
        except DeliveryError as error:
            raise TaskError(str(error)) from error

    def _item(self, id_: str) -> Item:
        example = self._examples[self._places[id_]]
        facts = {**example.facts, "question": example.question_text, "asking": _asking(example.facts)}
        return Item(id_, str(example.facts["family"]), example.prompt, facts)


def _asking(facts: Mapping[str, Any]) -> str:
    """How the delivery is asked for."""
    if facts["requested"] is not None:
        return "in words"
    return "not at all" if facts["tone"] == Tone.PLAIN else "by the user's tone"
