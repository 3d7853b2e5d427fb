"""The page of the study says what was measured, and what was refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.preference_study import ANCHORED, BASE, TUNED, Plan, page


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 200}


def result(seed: int, accuracy: float) -> dict[str, Any]:
    held = {"accuracy": estimate(accuracy), "baselines": {"longer reply": estimate(0.5), "left side": estimate(0.55)}}
    figures: dict[str, Any] = {
        "plan": asdict(Plan(seed)),
        "votes": {"used": 300, "left": 90, "right": 80, "tie": 130, "both_bad": 0},
        "held_out": {"words and voice": held, "words": held},
        "used": "words",
        "above_chance": accuracy - 0.1 > 0.5,
        "cpu_seconds": {"votes": 100.0},
    }
    if figures["above_chance"]:
        names = (BASE, TUNED, ANCHORED, f"{TUNED} - {BASE}", f"{TUNED} - {ANCHORED}")
        figures["criterion"] = {name: estimate(0.7) for name in names}
        figures["metrics"] = {"reward": [3.0, 3.5], "mix/lambda": [0.1, 0.2]}
    return figures


def test_the_page_tells_what_was_measured_and_what_was_refused() -> None:
    text = page([result(0, 0.68), result(1, 0.52)], "python -m app.preference_study --seeds 0 1")
    assert "`python -m app.preference_study --seeds 0 1`" in text
    assert "| 0 | 170 of 300 | 68.0 % (58.0 to 78.0) | **68.0 % (58.0 to 78.0)** | 50.0 %" in text
    assert "+70.0 points" in text
    assert "Seed 1: not above chance" in text
    assert "seed 1: reward" not in text
    assert "simulated" in text


def test_the_page_of_a_refused_study_claims_nothing() -> None:
    assert "held-out prompts\n" not in page([result(1, 0.52)], "command")
