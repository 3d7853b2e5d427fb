"""The best adapter of a recipe ships: chosen on validation, in half precision, with figures of what is shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluation import reproduce, ship_adapter
from evaluation.reproduce_cells import Cell, Setting
from evaluation.reproduce_measure import Sizes
from evaluation.reproduce_variants import ReproduceError, variant
from tests.evaluation.tiny_cells import TINY, make_brief_assets
from wavalign.models.registry import Registry
from wavalign.training.journal import ADAPTER

SIZES = Sizes(split="validation", prompts=4, samples=2, spoken=2, warm=1, likelihood=0)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Two seeds of a recipe with an adapter for each channel, trained for two steps."""
    assets = make_brief_assets(tmp_path_factory.mktemp("assets"))
    work = tmp_path_factory.mktemp("work")
    sizes = [f"--{name}={getattr(SIZES, name)}" for name in ("split", "prompts", "samples", "spoken", "warm")]
    shared = ["--likelihood=0", "--base=tiny-base", f"--assets={assets}", f"--work={work}", "--steps=2", "--curve=2"]
    chosen = ["--recipes", "wavalign", "--seeds", "0", "1", "--set", *TINY, "tuning.per_channel=true"]
    assert reproduce.main([*sizes, *shared, *chosen]) == 0
    return Setting(work, assets, base="tiny-base", steps=2, sizes=SIZES)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives the seeds these scores on validation prompts."""

    def give(*scores: float) -> None:
        monkeypatch.setattr(ship_adapter, "validation_score", lambda cell: scores[cell.seed])

    return give


def test_the_seed_with_the_best_validation_score_is_shipped_in_halves(setting: Setting, scored) -> None:
    scored(2.0, 3.0)
    folder = ship_adapter.ship("wavalign", [0, 1], setting)
    assert folder == setting.assets / "closedtalk-wavalign"
    trained = Cell(variant("wavalign"), 1, setting).run / ADAPTER
    shipped, exact = load_file(folder / "adapter_model.safetensors"), load_file(trained / "adapter_model.safetensors")
    assert shipped.keys() == exact.keys()
    assert all(torch.equal(shipped[key], exact[key].half()) for key in exact)
    assert json.loads((folder / "channels.json").read_text()) == {"text": 4, "speech": 4}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert (provenance["seed"], provenance["run"]) == (1, "python -m evaluation.reproduce --recipes wavalign --seeds 1")
    assert not [each for each in setting.assets.iterdir() if each.name.startswith(".ship-")]


def test_what_is_shipped_loads_beside_its_base_wherever_the_assets_are(setting: Setting, scored) -> None:
    scored(3.0, 2.0)
    folder = ship_adapter.ship("wavalign", [0, 1], setting)
    assert str(setting.work) not in "".join(path.read_text() for path in folder.glob("*.json"))
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "../tiny-base"
    model = Registry(setting.assets).load(["tiny-base", "closedtalk-wavalign"])
    assert set(model.adapters) == {"tiny-base", "closedtalk-wavalign"}


def test_the_card_says_what_was_measured_beside_the_base(setting: Setting, scored) -> None:
    scored(3.0, 2.0)
    card = (ship_adapter.ship("wavalign", [0, 1], setting) / "README.md").read_text()
    assert "base_model: tiny-base" in card
    assert "2 updates of 2 prompts\nwith 3 rollouts" in card
    assert "seed 0" in card
    assert "WavAlign (arXiv 2604.14932)" in card
    row = next(line for line in card.splitlines() if line.startswith("| right answers, 2 samples at temperature 0.9"))
    assert len(row.split("|")) == 6


def test_seeds_are_chosen_on_validation_prompts_whatever_is_measured_later(setting: Setting, monkeypatch) -> None:
    asked: list[Sizes] = []

    def remembered(model, checkpoint: str, assets: Path, sizes: Sizes) -> dict[str, Any]:
        asked.append(sizes)
        return {"ids": ["a", "b"], "measures": {"score/sampled": [[8.0, 2.0], [2.0, 2.0]]}}

    monkeypatch.setattr(ship_adapter, "measured", remembered)
    cell = Cell(variant("wavalign"), 0, replace(setting, sizes=replace(SIZES, split="held_out")))
    assert ship_adapter.validation_score(cell) == 10 / 4
    assert asked == [replace(SIZES, split="validation", spoken=0, warm=0, likelihood=0)]


def test_without_an_adapter_there_is_nothing_to_ship(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(ReproduceError, match="holds no trained adapter of sft for the seeds 0 1; run"):
        ship_adapter.ship("sft", [0, 1], setting)
    assert not (setting.assets / "closedtalk-sft").exists()
    with pytest.raises(ReproduceError, match="The base is not measured"):
        ship_adapter.ship("wavalign", [0], Setting(tmp_path, setting.assets, base="tiny-base", sizes=SIZES))
