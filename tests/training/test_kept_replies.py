"""Replies of the untrained model that are kept: the same run with them as without, and never another run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_loop import learned, measured
from tests.training.tiny_run import small
from wavalign.training.config import TrainConfig
from wavalign.training.loop import Trainer

SCORED: dict[str, Any] = {"weights": {"letters": 1.0, "delivery": 0.5, "intelligibility": 0.5}}
"""Words and sound differ between the replies of a random model, so that there are pairs."""


def train(config: TrainConfig, folder: Path, assets: Path, replies: Path | None) -> Trainer:
    trainer = Trainer(config, folder, assets, quiet=True, replies=replies)
    assert trainer.run() == "completed"
    return trainer


def config(recipe: str = "dpo-text", **changes: Any) -> TrainConfig:
    return small(recipe, **{"steps": 3, "rewards": SCORED, "checkpoints": {"every": 3}, **changes})


def forbid_sampling(trainer: Trainer) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("sampled although the replies are kept")

    trainer.sampler.sample = refuse


def test_a_run_with_kept_replies_is_the_run_without(assets: Path, tmp_path: Path) -> None:
    plain = train(config(), tmp_path / "plain", assets, None)
    first = train(config(), tmp_path / "first", assets, tmp_path / "replies")
    again = Trainer(config(), tmp_path / "again", assets, quiet=True, replies=tmp_path / "replies")
    forbid_sampling(again)
    assert again.run() == "completed"
    assert measured(tmp_path / "plain") == measured(tmp_path / "first") == measured(tmp_path / "again")
    assert torch.equal(learned(plain), learned(first))
    assert torch.equal(learned(plain), learned(again))
    assert again.rewards.state() == plain.rewards.state()
    assert max(line["pairs"] for line in measured(tmp_path / "plain")) > 0


def test_another_scope_and_rate_draw_the_same_replies_and_another_seed_does_not(assets: Path, tmp_path: Path) -> None:
    train(config(), tmp_path / "first", assets, tmp_path / "replies")
    kept = sorted((tmp_path / "replies").rglob("*.gz"))
    assert len(kept) == 3
    other = Trainer(
        config("dpo-all", optimiser={"lr": 1e-2}), tmp_path / "all", assets, quiet=True, replies=tmp_path / "replies"
    )
    forbid_sampling(other)
    assert other.run() == "completed"
    train(config(seed=1), tmp_path / "seed", assets, tmp_path / "replies")
    assert len(list((tmp_path / "replies").rglob("*.gz"))) == 6


@pytest.mark.parametrize(
    "changes", [{"rollouts": {"temperature": 0.5}}, {"method": {"pairs": {"samples": 4}}}], ids=["hotter", "fewer"]
)
def test_other_settings_draw_their_own(changes: dict[str, Any], assets: Path, tmp_path: Path) -> None:
    train(config(), tmp_path / "first", assets, tmp_path / "replies")
    train(config(**changes), tmp_path / "other", assets, tmp_path / "replies")
    assert len(list((tmp_path / "replies").iterdir())) == 2


def test_the_time_that_kept_replies_took_is_told(assets: Path, tmp_path: Path) -> None:
    from wavalign.training.journal import read_metrics

    for name in ("first", "again"):
        train(config(), tmp_path / name, assets, tmp_path / "replies")
    first, again = (read_metrics(tmp_path / name) for name in ("first", "again"))
    assert all("perf/kept_s" not in line and line["perf/sampling_s"] > 0 for line in first)
    for drawn, kept in zip(first, again, strict=True):
        spent = sum(drawn.get(f"perf/{phase}_s", 0.0) for phase in ("sampling", "decoding", "rewards"))
        assert spent <= kept["perf/kept_s"] < spent + 0.1
        assert "perf/sampling_s" not in kept


def test_a_broken_file_is_drawn_again(assets: Path, tmp_path: Path) -> None:
    train(config(), tmp_path / "first", assets, tmp_path / "replies")
    for path, content in zip(sorted((tmp_path / "replies").rglob("*.gz")), (b"", b"no gzip", None), strict=True):
        path.write_bytes(path.read_bytes()[:-40] if content is None else content)
    train(config(), tmp_path / "again", assets, tmp_path / "replies")
    assert measured(tmp_path / "again") == measured(tmp_path / "first")


def test_failed_rewards_are_not_kept(assets: Path, tmp_path: Path) -> None:
    unreliable = {"weights": {"unreliable": 1.0, "delivery": 0.5, "letters": 0.5}}
    train(config(rewards=unreliable), tmp_path / "run", assets, tmp_path / "replies")
    assert not list((tmp_path / "replies").rglob("*.gz"))


def test_replies_of_a_model_that_learns_are_not_kept(assets: Path, tmp_path: Path) -> None:
    train(config("grpo-text"), tmp_path / "words", assets, tmp_path / "replies")
    train(config(method={"sampler": "policy"}), tmp_path / "online", assets, tmp_path / "replies")
    assert not (tmp_path / "replies").exists()
