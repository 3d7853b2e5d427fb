"""Replies of the untrained model that are kept: the same run with them as without, and never another run's."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.test_loop import learned, measured
from tests.training.tiny_run import small
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import make_config
from wavalign.training.journal import read_lines, read_metrics
from wavalign.training.loop import Trainer

SCORED: dict[str, Any] = {"weights": {"letters": 1.0, "delivery": 0.5, "intelligibility": 0.5}}
"""Words and sound differ between the replies of a random model, so that there are pairs."""


def train(config: TrainConfig, folder: Path, assets: Path, replies: Path | None) -> Trainer:
    trainer = Trainer(config, folder, assets, quiet=True, replies=replies)
    assert trainer.run() == "completed"
    return trainer


def config(recipe: str = "dpo-text", **changes: Any) -> TrainConfig:
    return small(recipe, **{"steps": 3, "rewards": SCORED, "checkpoints": {"every": 3}, **changes})


def only_words(recipe: str, **changes: Any) -> TrainConfig:
    """``config`` without the recipe's rewards of sound."""
    plain = config(recipe, **changes).model_dump(mode="json")
    plain["rewards"]["weights"] = {"letters": 1.0}
    return make_config(plain)


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
    "changes", [{"rollouts": {"temperature": 0.5}}, {"method": {"pairs": {"samples": 4}}}], ids=["colder", "fewer"]
)
def test_other_settings_draw_their_own(changes: dict[str, Any], assets: Path, tmp_path: Path) -> None:
    train(config(), tmp_path / "first", assets, tmp_path / "replies")
    train(config(**changes), tmp_path / "other", assets, tmp_path / "replies")
    assert len(list((tmp_path / "replies").iterdir())) == 2


def test_the_time_that_kept_replies_took_is_told(assets: Path, tmp_path: Path) -> None:
    for name in ("first", "again"):
        train(config(), tmp_path / name, assets, tmp_path / "replies")
    first, again = (read_metrics(tmp_path / name) for name in ("first", "again"))
    assert all("perf/kept_cpu_s" not in line and line["perf/sampling_s"] > 0 for line in first)
    assert all("perf/sampling_s" not in line and line["perf/kept_cpu_s"] > 0 for line in again)


def test_a_broken_file_is_drawn_again(assets: Path, tmp_path: Path) -> None:
    train(config(steps=4), tmp_path / "first", assets, tmp_path / "replies")
    wrong = gzip.compress(b'{"cpu_s": 1, "rollouts": [[], []], "combined": [], "channel": [1], "parts": {}}')
    empty, foreign, cut, flipped = sorted((tmp_path / "replies").rglob("*.gz"))
    empty.write_bytes(b"")
    foreign.write_bytes(wrong)
    cut.write_bytes(cut.read_bytes()[:-40])
    flipped.write_bytes(bytes(byte ^ (place == 40) for place, byte in enumerate(flipped.read_bytes())))
    train(config(steps=4), tmp_path / "again", assets, tmp_path / "replies")
    assert measured(tmp_path / "again") == measured(tmp_path / "first")


def test_where_nothing_can_be_kept_the_run_goes_on_and_says_so(assets: Path, tmp_path: Path) -> None:
    (tmp_path / "replies").write_text("a file where a folder should be")
    train(config(steps=1), tmp_path / "run", assets, tmp_path / "replies")
    told = [line for line in read_lines(tmp_path / "run" / "events.jsonl") if line["event"] == "replies not kept"]
    assert [line["step"] for line in told] == [1]
    assert "replies" in told[0]["reason"]


def test_replies_that_end_with_their_text_are_not_those_that_are_spoken(assets: Path, tmp_path: Path) -> None:
    unheard = {"rewards": {"weights": {"letters": 1.0}}, "method": {"pairs": {"semantic_weight": 1.0}}, "steps": 1}
    for name in ("dpo-text", "dpo-all"):
        replies = train(only_words(name, **unheard), tmp_path / name, assets, tmp_path / "replies").text_only
        assert replies == (name == "dpo-text")
    assert len(list((tmp_path / "replies").iterdir())) == 2


def test_failed_rewards_are_not_kept(assets: Path, tmp_path: Path) -> None:
    unreliable = {"weights": {"unreliable": 1.0, "delivery": 0.5, "letters": 0.5}}
    train(config(rewards=unreliable), tmp_path / "run", assets, tmp_path / "replies")
    assert not list((tmp_path / "replies").rglob("*.gz"))


def test_replies_of_a_model_that_learns_are_not_kept(assets: Path, tmp_path: Path) -> None:
    train(config("grpo-text"), tmp_path / "words", assets, tmp_path / "replies")
    train(config(method={"sampler": "policy"}), tmp_path / "online", assets, tmp_path / "replies")
    assert not (tmp_path / "replies").exists()
