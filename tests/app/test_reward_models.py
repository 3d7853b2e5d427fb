"""Reward models from this arena's votes: trained, kept, told; nothing is kept of what fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.pages.preference_model import card, shelf
from app.reward_models import Progress, RewardModelError, RewardModels
from app.store import Store, open_store
from tests.app.arena import make_arena, typed
from tests.training.tiny_run import make_assets
from wavalign.rewards.preference_model import FACTS

BASE = "tiny-base"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Votes of simulated raters who like the left side."""
    opened = open_store(tmp_path_factory.mktemp("home"), None)
    arena = make_arena(opened)
    for number in range(24):
        rater = arena.join(f"s-{number % 4}", source="simulated")
        arena.revealed(2, rater, typed(f"what is two plus {'one ' * (number % 6 + 1)}".strip()))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_assets(tmp_path_factory.mktemp("assets"))


def drained(models: RewardModels, name: object, source: str = "simulated") -> tuple[list[Progress], object]:
    steps, told = models.train(name, source, BASE), []
    while True:
        try:
            told.append(next(steps))
        except StopIteration as end:
            return told, end.value


def test_a_model_is_trained_kept_and_told(store: Store, assets: Path, tmp_path: Path) -> None:
    models = RewardModels(store, tmp_path, assets)
    told, model = drained(models, "first")
    assert {each.what for each in told} == {"Reading the replies", "Holding out"}
    assert all(0 <= each.share <= 1 for each in told)
    assert models.names() == ["first"]
    assert models.load("first").facts == model.facts
    assert model.facts["votes"]["used"] == 24
    said = card("first", model)
    assert "24 votes of 4 simulated raters on 6 questions" in said
    assert "the left side | 100 %" in said
    assert "the longer reply" in said
    assert ("rewards.preference.path=first" in said) == model.above_chance
    kept = shelf(models)
    assert "**first**: foretells" in kept
    assert "from 24 votes of simulated raters" in kept
    assert ("refused" in kept) != model.above_chance
    (tmp_path / "reward-models" / "first" / FACTS).write_text("{")
    assert "**first**: The preference reward model" in shelf(models)
    with pytest.raises(RewardModelError, match="already"):
        drained(models, "first")
    assert shelf(RewardModels(store, tmp_path / "elsewhere", assets)) == ""


def test_what_cannot_be_trained_is_one_sentence_and_leaves_nothing(store: Store, assets: Path, tmp_path: Path) -> None:
    models = RewardModels(store, tmp_path, assets)
    with pytest.raises(RewardModelError, match="no vote of a person yet"):
        drained(models, "nobody", source="human")
    for name in ("", "../up", None):
        with pytest.raises(RewardModelError, match="A name has"):
            drained(models, name)
    assert models.names() == []
    stopped = models.train("stopped", "simulated", BASE)
    next(stopped)
    stopped.close()
    assert models.names() == []
