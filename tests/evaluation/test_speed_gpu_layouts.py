"""Random checkpoints of the layouts beside the interleaved one: their sizes, and what is counted of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch
from torch import nn

from evaluation import speed_gpu_layouts as layouts
from evaluation import speed_gpu_moshi, speed_gpu_omni, speed_gpu_step
from evaluation.figures import Figure, Section, table
from wavalign.models.registry import Registry
from wavalign.training.channels import SPEECH, TEXT

REAL = [
    (make, name, shape)
    for make in (speed_gpu_omni, speed_gpu_moshi)
    for size in ("small", "large")
    for name, shape in make.SHAPES[size].items()
]


@pytest.mark.parametrize(("make", "name", "shape"), REAL, ids=[name for _, name, _ in REAL])
def test_a_real_size_has_the_parameters_that_its_name_says(make: Any, name: str, shape: Any) -> None:
    with torch.device("meta"):
        model, _ = make.build(shape)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 0.5e9 <= count <= 3e9
    assert count == pytest.approx(1e9 * float(name.split("-")[1].removesuffix("b")), rel=0.15)


@pytest.mark.parametrize("layout", list(layouts.LAYOUTS))
def test_both_sides_make_as_much_as_they_say(layout: str, tmp_path: Path) -> None:
    make, kind = layouts.LAYOUTS[layout]
    ((name, shape),) = make.SHAPES["tiny"].items()
    (tmp_path / name).mkdir()
    make.make(tmp_path / name, shape, torch.float32)
    measured = kind(Registry(tmp_path).load([name]), tmp_path / name)
    prompts = layouts._prompts(measured.model, 11)
    assert len({len(prompt) for prompt in prompts}) == 1
    assert all(one != other for one, other in itertools.pairwise(prompts))
    for unit, sides in measured.sides(batch=2, tokens=4).items():
        assert 0 < sides["ours"]() <= 2 * 4
        assert unit == "codes" or sides["generate"]() == 2 * 4
        assert measured.operations(unit) > 0
    assert measured.step_operations(0, 1, 2) > measured.step_operations(0, 1, 1) > 0


def test_where_there_is_nothing_to_compare_with_the_row_says_so() -> None:
    rows = layouts._rates("x/codes", "x: codes", 2, {"ours": lambda: 5}, 1, "codes")
    assert [row.value is None for row in rows] == [True, False, True]
    shown = table([Section("x", (*rows, Figure("y", "y", None)))]).splitlines()
    assert [speed_gpu_step.UNSUPPORTED in line for line in shown[2:]] == [True, False, True, False]
    assert "not measured" in shown[-1]


def test_a_ratio_compares_what_was_made_in_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turn(sides: Any, turns: int) -> dict[str, list[float]]:
        for _ in range(turns + 1):
            for act in sides.values():
                act()
        return {"generate": [2.0] * turns, "ours": [1.0] * turns}

    monkeypatch.setattr(layouts, "in_turn", in_turn)
    sides = {"ours": lambda: 6, "generate": lambda: 8}
    theirs, ours, ratio = layouts._rates("x/words", "x", 1, sides, 3, "words")
    assert (theirs.value, ours.value) == (pytest.approx(4), pytest.approx(6))  # 8 in two seconds, 6 in one
    assert ratio.value == pytest.approx(1.5)


def test_embeddings_are_looked_up_and_not_multiplied() -> None:
    assert layouts._weights(nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3))) == 4 * 3 + 3


def test_a_step_samples_replies_once_and_learns_from_all() -> None:
    class PerToken:
        def step_operations(self, prompt: int, words: int, codes: int) -> float:
            return 100 * prompt + 10 * words + codes

    channels = np.array([TEXT, TEXT, SPEECH], np.int8)
    reply, target = (SimpleNamespace(channels=channels) for _ in range(2))
    plan = SimpleNamespace(units=[SimpleNamespace(prompt=[7], completions=[reply, target])])
    # Each is learnt from, forward and back: 2 * 121; a reply of 2 words and a code was drawn before: 21.
    assert speed_gpu_step._work(PerToken(), plan, (2, 1)) == 2 * 121 + 2 * 121 + 21
