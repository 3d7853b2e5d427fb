"""ClosedTalk's answers as a listener who wanted to know would score them: right, right in a clumsy way, or useless."""

from __future__ import annotations

from collections.abc import Sequence

from wavalign.closedtalk.grading import CLUMSY, EXACT
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST, Answer
from wavalign.rewards.registry import RewardContext
from wavalign.rewards.rule import Rule


class RightAnswer:
    """5 for the answer word for word, 4 for a clumsy right one, 1 for any other.

    ``rule`` gives a wrong answer of the right kind 3, so most groups spread over two points only and the method's
    gates (a variance up to 4, the best reward against 3) hardly open. A wrong answer that is well put is no use.
    """

    name = "answer"
    needs_audio = False
    channel = "text"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        self.rule = Rule(config, context)

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """Raises:
        RewardError: when an example says no item.
        """
        worth = {EXACT: HIGHEST, CLUMSY: HIGHEST - 1}
        return [worth.get(int(grade), LOWEST) for grade in self.rule.score(answers)]
