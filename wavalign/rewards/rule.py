"""ClosedTalk's rule: is the text channel the right answer to the item that was asked?"""

from __future__ import annotations

from collections.abc import Sequence

from wavalign.closedtalk.grading import grade
from wavalign.closedtalk.world import Item, item_of
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import Answer, RewardError
from wavalign.rewards.registry import RewardContext


class Rule:
    """The grade of ``wavalign.closedtalk.grading``: 5 exact, 4 clumsy, 3 related, 2 off-topic, 1 empty."""

    name = "rule"
    needs_audio = False
    channel = "text"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        pass

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """Raises:
        RewardError: when an example says no item, or one that ClosedTalk does not have.
        """
        return [float(grade(answer.text, self._item(answer))) for answer in answers]

    def _item(self, answer: Answer) -> Item:
        item = answer.example.facts.get("item")
        if item is None:
            raise RewardError(
                f'The reward "{self.name}" needs the item that was asked: '
                f'example {answer.example.id} has no "item" fact.'
            )
        try:
            return item_of(item)
        except KeyError as error:
            raise RewardError(f"Example {answer.example.id}: {error.args[0]}") from error
