"""Replies from a server that really draws them: which adapter drew, how the trainer corrects, what a failure costs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.rollout_server import RolloutService, serving
from tests.training.test_loop import learned, train
from tests.training.tiny_run import small
from wavalign.models.protocol import Rollout
from wavalign.training import objectives
from wavalign.training.config import ConfigError, TrainConfig
from wavalign.training.config_files import make_config
from wavalign.training.journal import read_lines, read_metrics
from wavalign.training.loop import Trainer
from wavalign.training.served_rollouts import RolloutError, Served
from wavalign.training.world import Alone

FAST = {"optimiser": {"lr": 0.05, "warmup": 0}}


@pytest.fixture
def service(assets: Path):
    with serving(assets / "tiny-base") as service:
        yield service


def served(service: RolloutService, recipe: str = "wavalign", server: dict[str, Any] | None = None, **changes: Any):
    about = {"url": service.url, "backoff_s": 0, "attempts": 2, **(server or {})}
    return small(recipe, **({"steps": 3, "rollouts": {"source": "served", "server": about}} | FAST | changes))


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_lines(run / "events.jsonl") if event["event"] == kind]


def recorded(config: TrainConfig, run: Path, assets: Path) -> tuple[Trainer, list[list[list[Rollout]]]]:
    """A run, and the groups that it learned from."""
    trainer, groups = Trainer(config, run, assets, quiet=True), []
    sample = trainer.served.sample
    trainer.served.sample = lambda *about: (groups.append(sample(*about)), groups[-1])[1]
    trainer.run()
    return trainer, groups


# The formula


def test_the_ratio_is_truncated_from_above_and_has_no_gradient() -> None:
    logp = torch.tensor([-1.0, -1.0, -3.0, -1.0], requires_grad=True)
    drawn_with = torch.tensor([-1.5, -3.0, -1.0, math.nan])
    weight = objectives.truncated_importance(logp - drawn_with, 2.0)
    assert weight.tolist() == pytest.approx([math.exp(0.5), 2.0, math.exp(-2.0), 1.0])
    assert not weight.requires_grad


# With the adapter of now


@pytest.mark.parametrize("dialect", ["vllm", "sglang"])
def test_with_the_adapter_of_now_the_server_draws_as_the_trainer_would(dialect, service, assets, tmp_path) -> None:
    run = tmp_path / "mine"
    trainer, groups = recorded(served(service, "grpo-all", {"dialect": dialect}), run, assets)
    for line in read_metrics(run):
        assert line["rollouts/ratio_mean"] == pytest.approx(1, abs=1e-4)
        assert (line["rollouts/staleness"], line["rollouts/failed_frac"]) == (0, 0)
    # Every update was given to the server under its own name, and the one before taken away.
    prefix = "/v1" if dialect == "vllm" else ""
    assert [body["lora_name"] for body in service.of(f"{prefix}/load_lora_adapter")] == ["mine-0", "mine-1", "mine-2"]
    assert len(service.of(f"{prefix}/unload_lora_adapter")) == 3
    assert not service.loaded
    assert not list((run / "served").iterdir())
    # What was learned is what a run learns that draws the same replies itself.
    alone = Trainer(small("grpo-all", steps=3, **FAST), tmp_path / "alone", assets, quiet=True)
    replayed = iter(groups)
    alone.sampler.source.sample = lambda *about: next(replayed)
    alone.run()
    assert torch.allclose(learned(alone), learned(trainer), atol=1e-5)
    assert all(rollout.tokens in service.drawn for group in groups for each in group for rollout in each)


def test_replies_of_words_alone_end_with_their_text(service, assets, tmp_path) -> None:
    trainer = train(served(service, "grpo-text", steps=1), tmp_path, assets)
    end = trainer.trainee.policy.text_end
    assert end is not None
    for body in service.of("/v1/completions"):
        assert end in body["stop_token_ids"]
        assert (body["n"], body["temperature"]) == (3, 0.9)


# With an older adapter


def test_an_older_adapter_is_counted_and_corrected(service, assets, tmp_path) -> None:
    train(served(service, server={"push_every": 2}), tmp_path, assets)
    lines = read_metrics(tmp_path)
    assert [line["rollouts/staleness"] for line in lines] == [0, 1, 0]
    assert abs(lines[1]["rollouts/ratio_mean"] - 1) > 1e-3
    assert lines[2]["rollouts/ratio_mean"] == pytest.approx(1, abs=1e-4)
    assert len(service.of("/v1/load_lora_adapter")) == 2


def test_the_trainers_own_log_probabilities_are_those_of_the_adapter_that_drew(service, assets, tmp_path) -> None:
    service.silent = True
    trainer, groups = recorded(served(service, server={"push_every": 9}), tmp_path, assets)
    assert not torch.equal(learned(trainer), torch.cat([each.flatten() for each in trainer.served.version.weights]))
    for group in groups:  # the adapter of before the first update drew all of them
        for rollout in (rollout for each in group for rollout in each):
            drawn_with = service.drawn[rollout.tokens].logprobs
            assert np.allclose(rollout.logprobs, drawn_with, atol=1e-3)


# What fails


def test_a_request_that_fails_is_made_again(service, assets, tmp_path) -> None:
    answers = iter([503, None, 429])
    service.broken = lambda path, body: next(answers, None) if path == "/v1/completions" else None
    train(served(service, server={"attempts": 3}, steps=1), tmp_path, assets)
    (line,) = read_metrics(tmp_path)
    assert (line["rollouts/retries"], line["rollouts/failed_frac"]) == (2, 0)


def test_replies_that_do_not_come_are_left_out_and_counted(service, assets, tmp_path) -> None:
    prompts: list[list[int]] = []

    def broken(path: str, body: dict[str, Any]) -> int | None:
        if path != "/v1/completions":
            return None
        prompts.append(body["prompt"])
        return 500 if body["prompt"] == prompts[0] else None

    service.broken = broken
    trainer, groups = recorded(served(service, "grpo-all", {"at_once": 1}, steps=1), tmp_path, assets)
    (line,) = read_metrics(tmp_path)
    assert line["rollouts/failed_frac"] == 0.5
    assert line["rewards/letters/failed_frac"] == 0  # a reward has not failed for a reply that it never saw
    assert math.isfinite(line["loss"])
    assert [len(rollout.tokens) > 0 for rollout in groups[0][0] + groups[0][1]] == [False] * 3 + [True] * 3
    (event,) = events(tmp_path, "replies did not come")
    assert (event["failed"], event["asked"]) == (3, 6)
    assert "the cat sat on the cable" in event["reason"]
    # The other prompt teaches what it teaches alone.
    alone = Trainer(small("grpo-all", steps=1, **FAST), tmp_path / "alone", assets, quiet=True)
    alone.places = range(1, 2)
    alone.sampler.source.sample = lambda *about: [groups[0][1]]
    alone.run()
    assert torch.allclose(learned(alone), learned(trainer), atol=1e-5)


def test_a_server_that_does_not_answer_ends_the_run_in_one_sentence(service, assets, tmp_path) -> None:
    service.broken = lambda path, body: 500 if path == "/v1/completions" else None
    with pytest.raises(RolloutError, match=r"6 of 6 replies did not come: .* answers 500: the cat sat on the cable"):
        train(served(service), tmp_path, assets)


def test_a_push_that_fails_leaves_the_older_adapter_until_it_is_too_old(service, assets, tmp_path) -> None:
    loads = []
    service.broken = lambda path, body: (
        507 if path.endswith("/load_lora_adapter") and (loads.append(path) or len(loads) > 1) else None
    )
    with pytest.raises(RolloutError, match="is 2 updates behind and takes no newer one"):
        train(served(service, server={"max_staleness": 1}), tmp_path, assets)
    assert [line["rollouts/staleness"] for line in read_metrics(tmp_path)] == [0, 1]
    assert len(events(tmp_path, "adapter not pushed")) == 2


def test_a_server_that_was_started_anew_gets_the_adapter_again(service, assets, tmp_path) -> None:
    trainer = Trainer(served(service, server={"push_every": 9, "max_failed_share": 1}), tmp_path, assets, quiet=True)
    step = trainer._one_step

    def forgetful() -> dict[str, float]:
        if trainer.step == 1:
            service.loaded.clear()
        return step()

    trainer._one_step = forgetful
    trainer.run()
    assert [line["rollouts/failed_frac"] for line in read_metrics(tmp_path)] == [0, 1, 0]
    assert [body["lora_name"].rpartition("-")[2] for body in service.of("/v1/load_lora_adapter")] == ["0", "2"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"kind": "dpo"}}, "not for pairs"),
        ({"tuning": {"kind": "full"}}, "needs tuning.kind lora"),
        ({"tuning": {"per_channel": True}}, "one adapter for both channels"),
        ({"rollouts": {"source": "served", "speech_temperature": 0.5}}, "at one temperature"),
        ({"rollouts": {"source": "served", "server": {"url": "ftp://x"}}}, "rollouts.server.url"),
    ],
)
def test_what_a_server_cannot_do_is_refused(changes, said) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config({"rollouts": {"source": "served"}} | changes)


def test_a_base_whose_prompts_or_sounds_are_no_tokens_is_refused(service, assets, tmp_path) -> None:
    trainer = Trainer(served(service), tmp_path, assets, quiet=True)
    about = (trainer.config.rollouts.server, "x", tmp_path, trainer.trainee, Alone(), print)
    trainer.trainee.base.heard = object()
    with pytest.raises(ConfigError, match="hears through an encoder"):
        Served(*about)
    trainer.trainee.base.heard = None
    trainer.trainee.origin = replace(trainer.trainee.origin, layout="thinker-talker")
    with pytest.raises(ConfigError, match="no server gives the tokens of its sound"):
        Served(*about)
