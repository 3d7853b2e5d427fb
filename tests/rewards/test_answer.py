"""The reward of right answers, on one item of ClosedTalk."""

from __future__ import annotations

from pathlib import Path

import pytest

from wavalign.dialogue import Dialogue, Turn
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import Answer
from wavalign.rewards.registry import RewardContext, build
from wavalign.training.examples import Example


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("seven plus five is twelve", 5.0),
        ("twelve", 4.0),
        ("seven plus five is eleven", 1.0),
        ("the cow says moo", 1.0),
        ("", 1.0),
    ],
)
def test_only_right_answers_are_worth_something(text: str, score: float) -> None:
    example = Example("a", Dialogue((Turn("user", text="seven plus five"),)), facts={"item": "add/seven/five"})
    config = RewardConfig(weights={"answer": 1.0})
    assert build("answer", config, RewardContext(Path())).score([Answer(example, text, None, True)]) == [score]
