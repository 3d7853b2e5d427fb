"""Checkpoints found, shared and, when broken, refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import tiny
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry


def test_names_are_bases_then_adapters_of_both_places(assets: Path, tmp_path: Path) -> None:
    tiny.make_tiny_adapter(tmp_path / "checkpoints" / "mine", assets / "tiny-base")
    assert Registry(assets, tmp_path).names() == ("tiny-base", "mine", "tiny-other", "tiny-tuned")
    assert Registry(tmp_path / "nowhere").names() == ()


def test_a_checkpoint_knows_its_base_and_where_it_came_from(assets: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "mine"
    tiny.make_tiny_adapter(folder, assets / "tiny-base")
    (folder / "provenance.json").write_text(json.dumps({"run": "r1", "recipe": "wavalign"}))
    checkpoint = Registry(assets, tmp_path).checkpoint("mine")
    assert checkpoint.base_name == "tiny-base"
    assert checkpoint.adapter == folder
    assert checkpoint.layout == "interleaved"
    assert checkpoint.provenance == {"run": "r1", "recipe": "wavalign"}


def test_a_model_card_is_provenance_too(assets: Path) -> None:
    assert Registry(assets).checkpoint("tiny-tuned").provenance["library_name"] == "peft"


def test_one_base_serves_all_its_adapters(assets: Path) -> None:
    registry = Registry(assets)
    first, second = registry.load(["tiny-base"]), registry.load(["tiny-other", "tiny-tuned"])
    assert first.base is second.base
    assert second.names == ("tiny-other", "tiny-tuned")
    weights = [p.data_ptr() for n, p in second.base.network.named_parameters() if "lora" not in n]
    assert len(set(weights)) == len(weights)
    assert all(not parameter.requires_grad for n, parameter in second.base.network.named_parameters() if "lora" in n)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def edit(file: Path, **changes: object) -> None:
    data = json.loads(file.read_text())
    for name, value in changes.items():
        if value is None:
            data.pop(name)
        else:
            data[name] = value
    file.write_text(json.dumps(data))


def drop_tensor(file: Path, part: str) -> None:
    tensors = load_file(file)
    del tensors[next(name for name in tensors if part in name)]
    save_file(tensors, file, metadata={"format": "pt"})


def spoil(file: Path) -> None:
    """What a diverged training leaves."""
    save_file({name: tensor * float("nan") for name, tensor in load_file(file).items()}, file, {"format": "pt"})


BROKEN_BASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json is missing"),
    "config not json": (lambda f: (f / "config.json").write_text("{"), "config.json is not valid JSON"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "tokenizer.json is missing"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "truncated weights": (lambda f: truncate(f / "model.safetensors"), "truncated"),
    "a tensor missing": (lambda f: drop_tensor(f / "model.safetensors", "up_proj"), "lacks 1 of its tensors"),
    "another size": (lambda f: edit(f / "config.json", intermediate_size=48), r"has the shape .* config asks for"),
    "no tokenizer.json": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
    "not numbers": (lambda f: spoil(f / "model.safetensors"), "not numbers"),
    "layout not json": (lambda f: (f / "interleaved.json").write_text("4:10"), "not valid JSON"),
    "layout incomplete": (lambda f: edit(f / "interleaved.json", speech_chunk=None), "lacks .speech_chunk"),
    "speech tokens missing": (lambda f: edit(f / "interleaved.json", speech_count=65), "audio_64"),
    "codec missing": (lambda f: edit(f / "interleaved.json", codec="../nowhere"), "no codec"),
    "codec too small": (lambda f: edit(f / "interleaved.json", speech_count=63), "its codec has 64"),
}


@pytest.mark.parametrize("damage", BROKEN_BASES)
def test_a_broken_base_is_one_sentence_that_names_it(assets: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(assets / "tiny-codec", tmp_path / "tiny-codec")
    shutil.copytree(assets / "tiny-base", tmp_path / "mine")
    act, sentence = BROKEN_BASES[damage]
    act(tmp_path / "mine")
    with pytest.raises(CheckpointError, match=sentence) as error:
        Registry(tmp_path).load(["mine"])
    assert '"mine"' in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_codec_is_refused(assets: Path, tmp_path: Path) -> None:
    shutil.copytree(assets / "tiny-codec", tmp_path / "tiny-codec")
    shutil.copytree(assets / "tiny-base", tmp_path / "mine")
    truncate(tmp_path / "tiny-codec" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"codec in .* cannot be loaded"):
        Registry(tmp_path).load(["mine"])


@pytest.mark.parametrize("name", ["nobody", "", "../tiny-base", "tiny-codec"])
def test_what_is_not_a_checkpoint_is_said(assets: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="checkpoint"):
        Registry(assets).load([name])


def other_rank(file: Path) -> None:
    tensors = {
        name: tensor[:, :-1].contiguous() if "lora_A" in name else tensor for name, tensor in load_file(file).items()
    }
    save_file(tensors, file)


BROKEN_ADAPTERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config value": (lambda f: edit(f / "adapter_config.json", base_model_name_or_path=None), "does not say"),
    "unknown base": (lambda f: edit(f / "adapter_config.json", base_model_name_or_path="b/elsewhere"), "elsewhere"),
    "not lora": (lambda f: edit(f / "adapter_config.json", peft_type="IA3"), "IA3|not a PEFT config"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "is missing"),
    "truncated": (lambda f: truncate(f / "adapter_model.safetensors"), "truncated"),
    "another shape": (lambda f: other_rank(f / "adapter_model.safetensors"), "another base"),
    "another rank": (lambda f: edit(f / "adapter_config.json", r=3), "has the shape"),
    "not numbers": (lambda f: spoil(f / "adapter_model.safetensors"), "not numbers"),
    "a matrix missing": (lambda f: drop_tensor(f / "adapter_model.safetensors", "lora_B"), "lacks"),
    "other modules": (lambda f: edit(f / "adapter_config.json", target_modules=["c_attn"]), "none of its target"),
    "fewer modules": (lambda f: edit(f / "adapter_config.json", target_modules=["q_proj"]), "no place for"),
}


@pytest.mark.parametrize("damage", BROKEN_ADAPTERS)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_the_base_as_it_was(
    assets: Path, tmp_path: Path, damage: str
) -> None:
    registry = Registry(assets, tmp_path)
    folder = tmp_path / "checkpoints" / "mine"
    shutil.copytree(assets / "tiny-tuned", folder)
    act, sentence = BROKEN_ADAPTERS[damage]
    act(folder)
    with pytest.raises(CheckpointError, match=sentence) as error:
        registry.load(["tiny-base", "mine"])
    assert '"mine"' in str(error.value)
    network = registry.load(["tiny-base"]).base.network
    assert not any("lora" in name for name, _ in network.named_parameters())


def test_two_bases_do_not_answer_together(assets: Path, tmp_path: Path) -> None:
    tiny.make_tiny_checkpoint(tmp_path / "checkpoints" / "second", seed=5)
    with pytest.raises(CheckpointError, match="different bases"):
        Registry(assets, tmp_path).load(["tiny-base", "second"])


def test_half_precision_folders_are_loaded_as_floats(assets: Path, tmp_path: Path) -> None:
    shutil.copytree(assets / "tiny-codec", tmp_path / "tiny-codec")
    shutil.copytree(assets / "tiny-base", tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
    edit(tmp_path / "half" / "config.json", dtype="float16")
    network = Registry(tmp_path).load(["half"]).base.network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
