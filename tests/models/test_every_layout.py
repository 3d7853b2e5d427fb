"""What every layout must do, on a tiny checkpoint of each: talk, side by side, train, save, reload, evaluate, promote.

The claims are the same for all; a layout that needs another one is not behind the protocol.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch

from app.jobs.job import Job
from app.jobs.promote import promote
from evaluation.assess import Assessment, Place
from evaluation.assess_plan import make_plan
from evaluation.speed_gpu_rows import hum
from evaluation.tasks.protocol import Item, MetricInfo, Scored
from evaluation.tasks.registry import TASKS
from tests.models.layout_builders import BUILDERS, Tiny
from tests.training.tiny_run import small
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import CheckpointError, GenerationError, Request, Sampling
from wavalign.models.registry import Registry
from wavalign.training.batch import Completion, Unit
from wavalign.training.channels import SPEECH, TEXT, channels_of
from wavalign.training.job_memory import job_memory
from wavalign.training.journal import ADAPTER, read_metrics
from wavalign.training.loop import Trainer
from wavalign.training.plan import Scores

TYPED = Dialogue((Turn("user", text="What is seven plus five?"),))
SPOKEN = Dialogue((Turn("user", speech=hum(1.0)),))
NAMES = ("tiny-base", "tiny-tuned")
STEPS = 10


@pytest.fixture(scope="module", params=list(BUILDERS))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return BUILDERS[request.param](tmp_path_factory.mktemp("layout"))


@pytest.fixture(scope="module")
def model(tiny: Tiny) -> Any:
    return Registry(tiny.assets).load(list(NAMES))


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """Ten WavAlign steps on the same four prompts, measured before and after; the app's home they were made in."""
    home = tmp_path_factory.mktemp("home")
    config = _run_config(
        tiny,
        steps=STEPS,
        batch=4,
        micro_batch=4,
        optimiser={"lr": 1e-2, "warmup": 1, "schedule": "constant"},
        evaluation={"every": STEPS, "prompts": 2, "samples": 1, "spoken": 1},
        rollouts={"max_tokens": 24, "max_seconds": 0.4},  # every token is a forward, and anchors are as long as ever
    )
    trainer = Trainer(config, home / "runs" / "ten-steps", tiny.assets, home, quiet=True)
    assert trainer.run() == "completed"
    return trainer, home


def _run_config(tiny: Tiny, **changes: Any) -> Any:
    merged: dict[str, Any] = {**changes}
    for name, value in tiny.changes.items():
        merged[name] = {**value, **merged.get(name, {})} if isinstance(value, dict) else value
    return small("wavalign", **merged)


def _sampling(model: Any, **changes: Any) -> Sampling:
    return replace(model.default_sampling, **{"seed": 4, **changes})


def _streamed(stream: Any, sides: int) -> tuple[list[str], list[np.ndarray], list]:
    text, audio = [""] * sides, [[np.zeros(0, np.float32)] for _ in range(sides)]
    while True:
        try:
            for side, chunk in enumerate(next(stream)):
                if chunk is not None:
                    text[side] += chunk.text
                    audio[side] += [] if chunk.waveform is None else [chunk.waveform.samples]
        except StopIteration as end:
            return text, [np.concatenate(parts) for parts in audio], end.value


# Talk


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_a_streamed_reply_is_the_whole_reply_in_pieces(model: Any, dialogue: Dialogue) -> None:
    request = Request(dialogue, "tiny-base", _sampling(model))
    text, audio, (reply,) = _streamed(model.stream_many([request]), 1)
    assert text == [reply.text]
    assert reply.text
    assert np.array_equal(audio[0], reply.waveform.samples)
    assert reply.waveform.sample_rate == model.sample_rate
    assert reply.waveform.seconds > 0.1
    assert np.abs(model.decode_speech(reply.tokens).samples - reply.waveform.samples).max() < 1e-4
    assert model.text_of(reply.tokens) == reply.text
    assert model.well_formed(reply.tokens, whole=reply.finished)
    assert model.reply_many([request])[0].tokens == reply.tokens


def test_a_conversation_goes_on_from_what_was_said(model: Any) -> None:
    (reply,) = model.reply_many([Request(TYPED, "tiny-base", _sampling(model))])
    dialogue = TYPED.plus(reply.as_turn()).plus(SPOKEN.turns[0])
    words = [token for token, channel in zip(reply.tokens, model.channel_of(reply.tokens), strict=True) if channel == 0]
    prompt = list(model.encode_prompt(dialogue))
    first = list(model.encode_prompt(TYPED))
    assert prompt[: len(first)] == first
    assert [token for token in prompt[len(first) :] if token in words][: len(words)] == words
    (answer,) = model.reply_many([Request(dialogue, "tiny-tuned", _sampling(model))])
    assert answer.tokens


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_side_by_side_each_is_what_it_is_alone(model: Any, temperature: float) -> None:
    sampling = _sampling(model, temperature=temperature, speech_temperature=temperature)
    requests = [Request(dialogue, name, sampling) for dialogue in (TYPED, SPOKEN) for name in NAMES]
    text, audio, together = _streamed(model.stream_many(requests), len(requests))
    assert len({reply.tokens for reply in together}) == len(requests)
    for side, (request, reply) in enumerate(zip(requests, together, strict=True)):
        assert text[side] == reply.text
        assert np.array_equal(audio[side], reply.waveform.samples)
        assert model.reply_many([request])[0].tokens == reply.tokens


def test_a_stop_ends_every_side_and_keeps_what_was_said(model: Any) -> None:
    stop = threading.Event()
    sampling = _sampling(model, max_seconds=20.0, max_tokens=400)
    stream = model.stream_many([Request(TYPED, name, sampling) for name in NAMES], stop)
    next(stream)
    stop.set()
    _, _, replies = _streamed(stream, 2)
    assert all(reply.tokens for reply in replies)
    assert any(not reply.finished for reply in replies)


@pytest.mark.parametrize(
    "dialogue",
    [Dialogue(), TYPED.plus(Turn("assistant", text="one")), Dialogue((Turn("user", text=""),))],
    ids=["nothing", "answered", "no words"],
)
def test_what_cannot_be_answered_is_one_sentence(model: Any, dialogue: Dialogue) -> None:
    with pytest.raises(GenerationError, match=r"^[^\n]+[.]$"):
        model.reply_many([Request(dialogue, "tiny-base", _sampling(model))])


# Policies


@pytest.mark.parametrize("name", NAMES)
def test_rollouts_have_the_log_probabilities_that_scoring_gives(model: Any, name: str) -> None:
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    groups = model.sample_groups(prompts, 2, _sampling(model), checkpoint=name)
    flat = [(prompt, rollout) for prompt, group in zip(prompts, groups, strict=True) for rollout in group]
    with torch.no_grad():
        scores = model.score([prompt for prompt, _ in flat], [r.tokens for _, r in flat], checkpoint=name)
    for row, (_, rollout) in enumerate(flat):
        assert scores.mask[row].sum() == len(rollout.tokens)
        assert scores.logprobs[row][scores.mask[row]].numpy() == pytest.approx(rollout.logprobs, abs=2e-3)
        assert model.well_formed(rollout.tokens, whole=rollout.finished)
    assert (scores.entropy[scores.mask] > -1e-5).all()
    channels = np.concatenate([channels_of(model, rollout.tokens) for _, rollout in flat])
    assert {int(TEXT), int(SPEECH)} <= set(channels.tolist())


def test_text_only_replies_begin_as_whole_ones_and_have_no_sound(model: Any) -> None:
    prompts = [model.encode_prompt(TYPED)]
    sampling = _sampling(model)
    whole = model.sample_groups(prompts, 3, sampling)[0]
    short = model.sample_groups(prompts, 3, sampling, text_only=True)[0]
    some = model.sample_groups(prompts, 3, sampling, spoken=1)[0]
    assert [rollout.tokens for rollout in some] == [whole[0].tokens, *(rollout.tokens for rollout in short[1:])]
    for long, cut in zip(whole, short, strict=True):
        size = min(len(long.tokens), len(cut.tokens))
        assert long.tokens[:size] == cut.tokens[:size]
        assert model.text_of(cut.tokens) == model.text_of(long.tokens[:size])


def test_adapters_attach_where_the_layout_says(model: Any) -> None:
    targets = model.lora_targets()
    paths = [path for path, module in model.network.named_modules() if "tiny-tuned" in getattr(module, "lora_A", {})]
    assert paths
    assert all(any(path == target or path.endswith(f".{target}") for target in targets) for path in paths)


def test_an_adapter_of_another_base_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "checkpoints" / "strange"
    folder.mkdir(parents=True)
    for file in (tiny.assets / "tiny-tuned").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "adapter_model.safetensors")
    renamed = {key.replace("layers.", "blocks.").replace(".h.", ".g."): tensor for key, tensor in weights.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"^[^\n]*strange[^\n]+[.]$"):
        Registry(tiny.assets, tmp_path).load(["strange"])


# Training


def test_the_preference_term_touches_words_only(tiny: Tiny, tmp_path: Path) -> None:
    config = _run_config(
        tiny,
        batch=2,
        rollouts={**tiny.changes.get("rollouts", {}), "stop": "speech"},
        method={"kind": "hybrid", "mix": {"kind": "fixed", "rl": 1.0}},
    )
    trainer = Trainer(config, tmp_path / "run", tiny.assets, quiet=True)
    examples = [trainer.data[0], trainer.data[1]]
    groups = trainer.sampler.sample(examples, 3, 5, 0)
    plan = trainer.method.plan(0, examples, trainer.sampler.reward(groups), trainer.world)
    for unit in plan.units:  # the demonstrations have no weight at lambda 1
        unit.completions = [completion for completion in unit.completions if not completion.target]
    everywhere = [_asked_everywhere(completion) for unit in plan.units for completion in unit.completions]
    assert any((channels == SPEECH).any() for channels in everywhere)
    from wavalign.training.batch import flatten

    scored = trainer.trainee.logprobs(plan.units)
    flat = flatten(plan.units, scored.logprobs.device)
    scored.logprobs.retain_grad()
    loss = trainer.method.loss(flat, Scores(scored.logprobs, scored.entropy), plan)
    loss.value.backward()
    gradient = scored.logprobs.grad
    assert (gradient[flat.channel == TEXT] != 0).any()
    assert (gradient[flat.channel != TEXT] == 0).all()
    for name, parameter in trainer.trainee.base.model.named_parameters():
        if parameter.requires_grad and any(part in name for part in tiny.speech_parameters):
            assert parameter.grad is None or not parameter.grad.any(), name


def _asked_everywhere(completion: Any) -> np.ndarray:
    """Asks for the log-probabilities of all tokens of a completion; its channels."""
    completion.target = True
    return completion.channels


def test_the_anchor_reaches_words_and_speech(tiny: Tiny, tmp_path: Path) -> None:
    config = _run_config(tiny, method={"kind": "hybrid", "mix": {"kind": "fixed", "rl": 0.0}})
    trainer = Trainer(config, tmp_path / "run", tiny.assets, quiet=True)
    example = trainer.data[0]
    policy = trainer.trainee.policy
    tokens = policy.encode_target(example.target_text, example.target_speech)
    from wavalign.training.batch import Completion, Unit

    unit = Unit(policy.encode_prompt(example.prompt), [Completion(tokens, channels_of(policy, tokens), target=True)])
    scored = trainer.trainee.logprobs([unit])
    assert len(scored.logprobs) == len(tokens)
    for channel in (TEXT, SPEECH):
        trainer.trainee.base.model.zero_grad()
        chosen = torch.from_numpy(unit.completions[0].channels == channel)
        (-scored.logprobs[chosen].sum()).backward(retain_graph=True)
        reached = [
            name for name, p in trainer.trainee.base.model.named_parameters() if p.grad is not None and p.grad.any()
        ]
        assert reached
        if channel == SPEECH and tiny.speech_parameters:
            assert any(part in name for name in reached for part in tiny.speech_parameters)


def test_ten_steps_lower_the_loss_of_words_and_of_speech(trained: tuple[Trainer, Path]) -> None:
    trainer, _ = trained
    lines = read_metrics(trainer.folder)
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == STEPS
    for channel in ("text", "speech"):
        assert steps[-1][f"loss/sft_{channel}"] < steps[0][f"loss/sft_{channel}"] - 0.01
    assert all(0 <= line["mix/lambda"] <= 1 for line in steps)


def test_evaluation_measures_words_and_sound(trained: tuple[Trainer, Path]) -> None:
    trainer, _ = trained
    before, after = (line for line in read_metrics(trainer.folder) if "eval/acoustic/seconds" in line)
    for channel in ("text", "speech"):
        assert after[f"eval/acoustic/nll_{channel}"] < before[f"eval/acoustic/nll_{channel}"]
    assert after["eval/acoustic/seconds"] > 0
    assert "eval/semantic/score" in after


class Counting:
    """A task of two prompts whose score is how many words were said."""

    name = "counting"
    metrics = (MetricInfo("words", "", 0, None, None),)
    breakdowns = ()
    needs = frozenset()

    def __init__(self, context: Any, part: str | None) -> None:
        pass

    def items(self, limit: int | None = None, seed: int = 0) -> list[Item]:
        return [Item("typed", "all", TYPED), Item("spoken", "all", SPOKEN)]

    def score(self, pairs: Any) -> list[Scored]:
        return [Scored({"words": float(len(said.text.split()))}) for _, said in pairs]

    def summary(self, rows: Any) -> dict[str, float]:
        return {}

    def judges(self) -> dict[str, Any]:
        return {}


def test_checkpoints_are_evaluated_together(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "counting", f"{__name__}:Counting")
    plan = make_plan(checkpoints=NAMES, tasks=("counting",), dnsmos=False, batch=4)
    assessment = Assessment(plan, Place(tmp_path, tiny.assets), quiet=True)
    assert assessment.run() == "completed"
    records = list(assessment.records.replies.values())
    assert len(records) == 2 * len(NAMES)
    for record in records:
        assert record.error is None or not record.error
        assert record.text
        assert record.values["seconds"] > 0


def test_a_saved_adapter_says_what_the_trained_model_said(
    tiny: Tiny, trained: tuple[Trainer, Path], tmp_path: Path
) -> None:
    trainer, home = trained
    policy = trainer.trainee.policy
    sampling = _sampling(policy, temperature=0.9, speech_temperature=0.9)
    mine = policy.reply_many([Request(d, "policy", sampling) for d in (TYPED, SPOKEN)])
    loaded = Registry(tiny.assets, home).load(["ten-steps", "tiny-base"])
    theirs = loaded.reply_many([Request(d, "ten-steps", sampling) for d in (TYPED, SPOKEN)])
    for reply, again in zip(mine, theirs, strict=True):
        assert again.tokens == reply.tokens
        assert again.text == reply.text
        assert np.allclose(again.waveform.samples, reply.waveform.samples, atol=1e-5)
    assert loaded.reply_many([Request(TYPED, "tiny-base", sampling)])[0].tokens != theirs[0].tokens


def test_full_fine_tuning_saves_a_base_that_loads(tiny: Tiny, tmp_path: Path) -> None:
    changes = {"tuning": {"kind": "full"}, "gradient_checkpointing": True, "optimiser": {"lr": 1e-3, "warmup": 0}}
    config = _run_config(tiny, steps=1, method={"kind": "hybrid", "mix": {"kind": "fixed", "rl": 0.0}}, **changes)
    trainer = Trainer(config, tmp_path / "runs" / "whole", tiny.assets, tmp_path, quiet=True)
    policy, few = trainer.trainee.policy, Sampling(0.0, max_tokens=20)
    before = policy.sample_groups([policy.encode_prompt(TYPED)], 1, few)
    trainer.run()
    sampling = _sampling(policy, temperature=0.0, speech_temperature=0.0)
    loaded = Registry(tiny.assets, tmp_path).load(["whole"])
    mine = policy.reply_many([Request(SPOKEN, "policy", sampling)])[0]
    assert loaded.reply_many([Request(SPOKEN, "whole", sampling)])[0].tokens == mine.tokens
    after = policy.sample_groups([policy.encode_prompt(TYPED)], 1, few)
    assert not np.array_equal(before[0][0].logprobs, after[0][0].logprobs)


def test_memory_is_told_of_what_is_then_trained(tiny: Tiny, trained: tuple[Trainer, Path]) -> None:
    trainee = trained[0].trainee
    told = job_memory(trainee.config, trainee.origin, "cpu")
    assert told.adapter == 4 * sum(p.numel() for p in trainee.parameters)
    loaded = sum(p.numel() * p.element_size() for name, p in trainee.network.named_parameters() if "lora_" not in name)
    assert told.weights >= loaded
    assert min(told.forward, told.rollouts) > 0


def test_recomputed_activations_keep_less_and_teach_the_same(tiny: Tiny, trained: tuple[Trainer, Path]) -> None:
    trainer, _ = trained
    trainee, policy = trainer.trainee, trainer.trainee.policy
    example = trainer.data[0]
    target = policy.encode_target(example.target_text, example.target_speech)
    unit = Unit(policy.encode_prompt(example.prompt), [Completion(target, policy.channel_of(target), target=True)])

    def learnt() -> tuple[int, torch.Tensor]:
        """Bytes kept for the backward pass, and the gradient."""
        kept: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = -trainee.logprobs([unit]).logprobs.sum()
        slopes = torch.autograd.grad(loss, trainee.parameters, allow_unused=True)
        return sum(kept.values()), torch.cat([each.flatten() for each in slopes if each is not None])

    whole, slope = learnt()
    trainee.network.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        less, again = learnt()
    finally:
        for module in trainee.network.modules():
            if getattr(module, "gradient_checkpointing", False):
                module.gradient_checkpointing = False
    assert less < 0.8 * whole
    assert torch.allclose(again, slope, rtol=1e-4, atol=1e-6)
    assert float(slope.abs().max()) > 0


def test_a_promoted_run_is_a_checkpoint(tiny: Tiny, trained: tuple[Trainer, Path]) -> None:
    trainer, home = trained
    values = dict.fromkeys(Job.__dataclass_fields__)
    job = Job(**{**values, "id": "j1", "name": "ten steps", "folder": trainer.folder, "at": time.time()})
    assert (trainer.folder / ADAPTER).is_dir()
    assert "promoted" in promote(job, "promoted", home, tiny.assets, told=lambda said: None, prompts=2)
    registry = Registry(tiny.assets, home)
    assert "promoted" in registry.names()
    checkpoint = registry.checkpoint("promoted")
    assert checkpoint.base_name == "tiny-base"
    assert json.loads((checkpoint.adapter / "provenance.json").read_text())["promoted_from"] == "ten steps"
    model = registry.load(["promoted", "ten-steps"])
    sampling = _sampling(model)
    promoted, run = model.reply_many([Request(SPOKEN, name, sampling) for name in ("promoted", "ten-steps")])
    assert promoted.tokens == run.tokens
