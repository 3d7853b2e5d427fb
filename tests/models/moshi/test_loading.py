"""Moshi's checkpoints: which modules adapters change, what is refused, and that weights stay what they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import tiny_moshi
from tests.models.tiny_moshi import SPOKEN, TYPED
from wavalign.models import attention
from wavalign.models.memory_estimate import estimate_folder
from wavalign.models.moshi_depth import stacked
from wavalign.models.moshi_loading import load_base
from wavalign.models.protocol import Channel, CheckpointError, Request
from wavalign.models.registry import Registry
from wavalign.models.registry_bases import footprint
from wavalign.models.registry_layouts import layout_at

# Adapters


def test_adapters_sit_on_exactly_the_named_modules(model: Any) -> None:
    targets = set(model.lora_targets())
    found = {path for path, module in model.network.named_modules() if "tuned" in getattr(module, "lora_A", {})}
    assert found == targets == set(model.base.model.peft_config["tuned"].target_modules)
    # Two layers of six modules, and two with six for each book.
    assert len(found) == 2 * 6 + 2 * 6 * tiny_moshi.BOOKS
    assert "decoder.model.layers.0.self_attn.q_proj.linear" in found
    assert "depth_decoder.layers.1.mlp.fc2.books.3" in found


def test_speech_moves_both_transformers_and_words_the_first(model: Any) -> None:
    prompt = model.encode_prompt(SPOKEN)
    target = model.encode_target("two", [book * tiny_moshi.CODES + 5 for _ in range(6) for book in range(4)])
    lora = {name: p.requires_grad_(True) for name, p in model.network.named_parameters() if "lora_B.tuned" in name}
    channels = torch.from_numpy(model.channel_of(target))
    moved = {}
    try:
        for channel in (Channel.TEXT, Channel.SPEECH):
            scores = model.score([prompt], [target], checkpoint="tuned")
            scores.logprobs[0, channels == channel].sum().backward()
            moved[channel] = {name.split(".")[0] for name, p in lora.items() if p.grad is not None and p.grad.any()}
            for parameter in lora.values():
                parameter.grad = None
    finally:
        for parameter in lora.values():
            parameter.requires_grad_(False)
    assert moved == {Channel.TEXT: {"decoder"}, Channel.SPEECH: {"decoder", "depth_decoder"}}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("depth_decoder.layers.0", "audio_encoder.decoder_transformer.layers.0"),
        ("books.0", "books.7"),
        ("decoder.model.layers.0.self_attn.q_proj.linear", "decoder.lm_head"),
    ],
)
def test_adapters_whose_keys_do_not_match_are_refused(assets: Path, tmp_path: Path, old: str, new: str) -> None:
    folder = tmp_path / "checkpoints" / "foreign"
    shutil.copytree(assets / "tuned", folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({key.replace(old, new): tensor for key, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    registry = Registry(assets, tmp_path)
    with pytest.raises(CheckpointError, match=r"^[^\n]*foreign[^\n]*only the linear modules[^\n]*[.]$"):
        registry.load(["foreign"])
    assert "foreign" not in getattr(registry.load(["moshi"]).base.model, "peft_config", {})


# What is refused


def _edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**data, **changes}), encoding="utf-8")

    return edit


def _without_padding(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<pad>", "<nop>"), encoding="utf-8")


def _lacking_depth(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if "lm_heads" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (_lacking_depth, "lacks 1 of its tensors"),
        (_without_padding, 'no token "<pad>"'),
        (_edited("config.json", audio_vocab_size=32), "does not fit its config.json"),
        (_edited("parallel_streams.json", pause_seconds=0), "pause_seconds must be"),
        (_edited("parallel_streams.json", speed=2), "must be an object with"),
        (_edited("parallel_streams.json", sampling={"temperature": -1}), "temperature must be"),
    ],
)
def test_a_broken_base_is_one_sentence(assets: Path, tmp_path: Path, change: Callable, sentence: str) -> None:
    folder = tmp_path / "checkpoints" / "broken"
    shutil.copytree(assets / "moshi", folder)
    change(folder)
    with pytest.raises(CheckpointError, match=rf"^[^\n]*broken[^\n]*{sentence}[^\n]*$"):
        Registry(tmp_path / "nothing", tmp_path).load(["broken"])


# Weights, and what is known before they are loaded


def base_state(model: Any) -> dict[str, torch.Tensor]:
    """The base's own tensors, without what adapters put around them."""
    state = {}
    for name, tensor in model.base.full.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = tensor
    return state


def test_unstacked_weights_are_saved_as_transformers_reads_them(model: Any, original: Any) -> None:
    mine = stacked(base_state(model))
    theirs = original.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_dtype_is_what_is_asked_for_and_mimi_stays_exact(assets: Path) -> None:
    base = load_base("moshi", assets / "moshi", torch.device("cpu"), torch.bfloat16)
    assert {p.dtype for p in base.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in base.mimi.mimi.parameters()} == {torch.float32}
    (reply,) = base.policy({"moshi": None}).reply_many([Request(SPOKEN, "moshi", base.sampling)])
    assert reply.tokens


def test_the_backbone_attends_as_the_host_asks_and_says_the_same(
    model: Any, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(attention.VARIABLE, "eager")
    base = load_base("moshi", assets / "moshi", torch.device("cpu"))
    assert base.full.decoder.config._attn_implementation == "eager"
    assert base.full.depth_decoder.config._attn_implementation == "sdpa"
    assert base.full.audio_encoder.config._attn_implementation == "sdpa"
    ((rollout,),) = model.sample_groups([model.encode_prompt(TYPED)], 1, replace(model.default_sampling, seed=1))
    rows = [model.encode_prompt(TYPED)], [rollout.tokens]
    with torch.no_grad():
        mine, theirs = (each.score(*rows, checkpoint="moshi") for each in (model, base.policy({"moshi": None})))
    assert theirs.logprobs.numpy() == pytest.approx(mine.logprobs.numpy(), abs=1e-3)


def test_a_frozen_copy_stays_what_it_was(model: Any, assets: Path) -> None:
    base = load_base("moshi", assets / "moshi")
    copied = base.frozen_copy()
    assert not any(parameter.requires_grad for parameter in copied.network.parameters())
    prompt = model.encode_prompt(SPOKEN)
    (rollout,) = model.sample_groups([prompt], 1, replace(model.default_sampling, max_tokens=20))[0]
    with torch.no_grad():
        base.network.depth_decoder.lm_heads.books[0].weight.mul_(2)
        changed, kept = (each.policy({"moshi": None}).score([prompt], [rollout.tokens]) for each in (base, copied))
    assert kept.logprobs[0].numpy() == pytest.approx(rollout.logprobs, abs=1e-4)
    speech = model.channel_of(rollout.tokens) == Channel.SPEECH
    assert not np.allclose(changed.logprobs[0].numpy()[speech], rollout.logprobs[speech], atol=1e-3)


def test_what_it_takes_is_known_before_it_is_loaded(model: Any, assets: Path) -> None:
    told = estimate_folder(assets / "moshi")
    assert told.weights == pytest.approx(footprint(load_base("moshi", assets / "moshi")), rel=0.05)
    # Keys and values of 2 layers of width 64, 200 steps of two replies, and of the depth transformer's few.
    assert told.cache >= 2 * 2 * 64 * 200 * 2 * 4


def test_the_layout_is_told_from_the_config_and_does_not_read(assets: Path) -> None:
    layout = layout_at("moshi", assets / "moshi")
    assert (layout.name, layout.reads, layout.runs_code) == ("parallel", False, False)
