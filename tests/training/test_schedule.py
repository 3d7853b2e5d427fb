from __future__ import annotations

import pytest

from wavalign.training.config import Optimiser
from wavalign.training.schedule import learning_rate


def rates(schedule: str, *steps: int) -> list[float]:
    settings = Optimiser(lr=1.0, warmup=4, schedule=schedule, floor=0.2)
    return [learning_rate(settings, step, 13) for step in steps]


def test_every_schedule_warms_up_to_its_peak():
    for schedule in ("cosine", "linear", "constant"):
        assert rates(schedule, 0, 1, 3, 4) == pytest.approx([0.25, 0.5, 1.0, 1.0])


def test_cosine_and_linear_end_at_the_floor():
    assert rates("cosine", 8, 12, 99) == pytest.approx([0.6, 0.2, 0.2])
    assert rates("linear", 6, 8, 12) == pytest.approx([0.8, 0.6, 0.2])
    assert rates("constant", 8, 12) == [1.0, 1.0]
