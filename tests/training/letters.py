"""A reward that a random model's replies differ in: 1 to 5 by the letters of their words.

python -m tests.training.letters config.yaml ...    wavalign.train with this reward known
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import Answer
from wavalign.rewards.registry import REWARDS, RewardContext


class Letters:
    name = "letters"
    needs_audio = False
    channel = "text"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        pass

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [1.0 + sum(map(ord, answer.text)) % 5 for answer in answers]


class Unreliable(Letters):
    """The same, but it fails for every third reply."""

    name = "unreliable"

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [None if i % 3 == 0 else score for i, score in enumerate(super().score(answers))]


class Indifferent(Letters):
    """3 for every reply."""

    name = "indifferent"

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [3.0 for _ in answers]


class Broken(Letters):
    """It always fails."""

    name = "broken"

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [None for _ in answers]


REWARDS["letters"] = "tests.training.letters:Letters"
REWARDS["unreliable"] = "tests.training.letters:Unreliable"
REWARDS["indifferent"] = "tests.training.letters:Indifferent"
REWARDS["broken"] = "tests.training.letters:Broken"

if __name__ == "__main__":
    import tests.training.letters  # noqa: F401  (under its own name, as the registry imports it)
    from wavalign.train import main

    sys.exit(main())
