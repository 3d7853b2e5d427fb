"""AdamW by its two ways of keeping averages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from wavalign.training import sharding
from wavalign.training.config import ConfigError, Optimiser
from wavalign.training.optimiser import optimiser_of


def test_the_settings_reach_adamw() -> None:
    settings = Optimiser(lr=0.25, betas=(0.5, 0.75), eps=1e-3, weight_decay=0.125)
    (group,) = optimiser_of(settings, [torch.nn.Parameter(torch.ones(2))]).param_groups
    assert {"lr": 0.25, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.125}.items() <= group.items()


def test_eight_bits_without_bitsandbytes_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes: pip install .*, or choose float32"):
        optimiser_of(Optimiser(states="8bit"), [torch.nn.Parameter(torch.ones(2))])


def test_eight_bit_averages_take_a_byte_and_are_saved_exactly(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

    def made() -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 64 * 128).reshape(64, 128))
        return parameter, optimiser_of(Optimiser(states="8bit", lr=0.1), [parameter])

    def step(parameter: torch.nn.Parameter, optimiser: torch.optim.Optimizer, number: int) -> None:
        parameter.grad = torch.randn(64, 128, generator=torch.Generator().manual_seed(number))
        optimiser.step()

    straight, kept = made()
    step(straight, kept, 0)
    assert kept.state[straight]["state1"].dtype == torch.uint8
    torch.save(sharding.optimiser_state(kept), tmp_path / "optimiser.pt")
    resumed, loaded = made()
    with torch.no_grad():
        resumed.copy_(straight)
    state = torch.load(tmp_path / "optimiser.pt", weights_only=True)
    sharding.set_optimiser_state(loaded, state, [resumed])
    step(straight, kept, 1)
    step(resumed, loaded, 1)
    assert torch.equal(resumed, straight)
