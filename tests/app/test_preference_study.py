"""The page of the study says what was measured, and what was refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from app import preference_study
from app.preference_study import StudyError, study
from app.preference_study_page import ANCHORED, BASE, TUNED, page
from app.preference_study_run import Plan, score
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.training.examples import Example


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 200}


def result(seed: int, accuracy: float, gain: float = 0.1) -> dict[str, Any]:
    held = {"accuracy": estimate(accuracy), "baselines": {"longer reply": estimate(0.5), "left side": estimate(0.55)}}
    figures: dict[str, Any] = {
        "plan": asdict(Plan(seed)),
        "votes": {"used": 300, "left": 90, "right": 80, "tie": 130, "both_bad": 0},
        "reads": ["text", "likelihood"],
        "held_out": held,
        "above_chance": accuracy - 0.1 > 0.5,
        "cpu_seconds": {"votes": 100.0},
    }
    if figures["above_chance"]:
        by_prompt = {BASE: [0.5] * 20, ANCHORED: [0.4] * 20, TUNED: [0.5 + gain] * 20}
        measured: dict[str, Any] = {name: estimate(0.7) for name in by_prompt} | {"by_prompt": by_prompt}
        measured |= {f"{TUNED} - {other}": estimate(gain) for other in (BASE, ANCHORED)}
        figures |= {"criterion": measured, "as_served": measured, "prompts": {"kept": 400, "of": 900}}
        figures["demonstrations"] = {"kept": 0.52, "of": 0.6}
        figures["metrics"] = {"reward": [3.0, 3.5], "lambda": 0.21}
    return figures


def test_the_page_tells_what_was_measured_and_what_was_refused() -> None:
    text = page(
        [result(0, 0.68, 0.15), result(1, 0.52), result(2, 0.7, 0.02)], "python -m app.preference_study --seeds 0 1 2"
    )
    assert "`python -m app.preference_study --seeds 0 1 2`" in text
    assert "| 0 | 170 of 300 | **68.0 (58.0 to 78.0)** | 50.0 (" in text
    assert text.count("| 0 | 70.0 (60.0 to 80.0) |") == 2
    assert "| **+15.0 (+5.0 to +25.0)** |" in text
    assert "| +2.0 (-8.0 to +12.0) |" in text  # zero is not excluded: not bold
    # The means of 15 and 2, and of 25 and 12; no prompt differs from another, and two seeds say little of others.
    assert "| these runs | | | | **+8.5 (+8.5 to +8.5)** | **+18.5 (+18.5 to +18.5)** |" in text
    assert "| any seed | | | | +8.5 (-" in text
    assert "on 400 of 900 dialogues: reward 3.00 to 3.50, lambda 0.21" in text
    assert "right in 52 % of these dialogues and in 60 % of all" in text
    assert "the right answer" in text
    assert "Seed 1: not above chance" in text
    assert "seed 1: reward" not in text
    assert "simulated" in text


def test_the_page_of_a_refused_study_claims_nothing() -> None:
    assert "held-out prompts\n" not in page([result(1, 0.52)], "command")


def test_the_study_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes that are there are not cast again, a finished study is read, and a refused reward trains nothing."""
    calls: list[str] = []

    class Model:
        above_chance = False
        facts: ClassVar = {"votes": {}, "blocks": [], "held_out": {}}

    def reward(work: Path, assets: Path) -> Model:
        calls.append("reward")
        return Model()

    monkeypatch.setattr(preference_study, "_vote", lambda *_: calls.append("votes"))
    monkeypatch.setattr(preference_study, "_reward", reward)
    monkeypatch.setattr(preference_study.run, "train", lambda *_: calls.append("run"))
    (tmp_path / "export").mkdir()
    (tmp_path / "seconds.json").write_text('{"reward model": 2.0}')
    found = study(Plan(0), tmp_path, tmp_path)
    assert calls == ["reward"]
    assert not found["above_chance"]
    assert found["cpu_seconds"]["reward model"] >= 2.0
    assert study(Plan(0), tmp_path, tmp_path) == found
    assert calls == ["reward"]
    with pytest.raises(StudyError, match="another plan"):
        study(Plan(0, noise=0.5), tmp_path, tmp_path)


class Says:
    """A model whose replies are one sentence of as many tenths of a second as they have tokens."""

    def text_of(self, tokens: tuple[int, ...]) -> str:
        return "two plus two is four" if len(tokens) < 20 else "two plus two is five"

    def decode_speech(self, tokens: tuple[int, ...]) -> Waveform:
        return Waveform(np.zeros(1600 * len(tokens), np.float32), 16_000)


def test_the_criterion_is_measured_on_what_was_said_and_on_how_it_sounds() -> None:
    asked = Dialogue((Turn("user", text="what is two plus two"),))
    example = Example("one", asked, facts={"item": "add/two/two"})
    assert [score("right", Says(), example, (1,) * count) for count in (10, 30)] == [1.0, 0.0]
    assert score("brief", Says(), example, (1,) * 30) == pytest.approx(-3.0)
