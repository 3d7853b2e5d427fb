"""One adapter for each channel is trained, saved, resumed and loaded like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.training.test_loop import learned, measured, train
from tests.training.tiny_run import small
from wavalign.models.channel_adapters import CHANNELS_FILE, gates_of
from wavalign.models.protocol import Sampling
from wavalign.models.registry import Registry
from wavalign.training.config import ConfigError, TrainConfig
from wavalign.training.loop import Trainer

PER_CHANNEL = {"kind": "lora", "rank": 4, "alpha": 8, "per_channel": True}


def config(**changes) -> TrainConfig:
    return small("alpo-anchored", **{"tuning": PER_CHANNEL, **changes})


def test_it_is_a_checkpoint_that_answers_and_can_be_trained_on(assets: Path, tmp_path: Path) -> None:
    trainer = train(config(), tmp_path / "run", assets)
    assert json.loads((tmp_path / "run" / "adapter" / CHANNELS_FILE).read_text()) == {"text": 4, "speech": 4}
    for name in ("tiny-base", "tiny-codec"):
        shutil.copytree(assets / name, tmp_path / "assets" / name)
    shutil.copytree(tmp_path / "run" / "adapter", tmp_path / "assets" / "made")
    model = Registry(tmp_path / "assets").load(["made", "tiny-base"])
    sampling = Sampling(temperature=1.0, max_tokens=30, seed=2)
    prompts = [[5, 6, 7], [8, 9]]
    mine = trainer.trainee.policy.sample_groups(prompts, 2, sampling, checkpoint="policy")
    theirs = model.sample_groups(prompts, 2, sampling, checkpoint="made")
    assert [r.tokens for g in mine for r in g] == [r.tokens for g in theirs for r in g]
    shutil.copytree(assets / "closedtalk-data", tmp_path / "assets" / "closedtalk-data")
    for name in ("closedtalk-recogniser", "closedtalk-references.json"):
        copy = shutil.copytree if (assets / name).is_dir() else shutil.copy
        copy(assets / name, tmp_path / "assets" / name)
    on = Trainer(config(base="made"), tmp_path / "on", tmp_path / "assets", quiet=True)
    assert gates_of(on.trainee.network).ranks.keys() == {"default", "start"}
    assert torch.equal(learned(on), learned(trainer))


def test_a_resumed_run_is_the_run_that_was_never_stopped(assets: Path, tmp_path: Path) -> None:
    whole = train(config(steps=3, checkpoints={"every": 1}), tmp_path / "whole", assets)
    stopped = Trainer(config(steps=3, checkpoints={"every": 1}), tmp_path / "parts", assets, quiet=True)
    step, stopped._one_step = stopped._one_step, lambda: (stopped.stop.ask("a test"), step())[1]
    stopped.run()
    assert stopped.step == 1
    resumed = train(config(steps=3, checkpoints={"every": 1}), tmp_path / "parts", assets)
    assert torch.equal(learned(whole), learned(resumed))
    assert measured(tmp_path / "whole") == measured(tmp_path / "parts")


def test_packed_and_separate_rows_learn_the_same(assets: Path, tmp_path: Path) -> None:
    packed, separate = (learned(train(config(packing=kind), tmp_path / kind, assets)) for kind in ("on", "off"))
    assert torch.allclose(packed, separate, atol=1e-5)


def test_a_text_only_recipe_without_demonstrations_trains_no_speech_adapter(assets: Path, tmp_path: Path) -> None:
    """Words of the first chunk are all that it learns from here, and no sound comes before them."""
    settings = {"group_size": 3, "max_tokens": 4, "max_seconds": 2.0}
    changes = {"tuning": PER_CHANNEL, "rollouts": settings}
    before = learned(Trainer(small("grpo-text", **changes), tmp_path / "fresh", assets, quiet=True))
    trainer = train(small("grpo-text", **changes), tmp_path / "run", assets)
    assert not torch.equal(before, learned(trainer))
    for name, weight in trainer.trainee.base.model.named_parameters():
        if "lora_B" in name:
            assert weight[:, 4:].abs().max() == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "tiny-tuned"}, "one adapter for both channels"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, said: str, assets: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        Trainer(config(**changes), tmp_path, assets, quiet=True)
