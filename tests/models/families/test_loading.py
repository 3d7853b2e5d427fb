"""The families' checkpoints are known by config.json and open with the weights and tokens that they were saved with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest
import torch

from tests import tiny
from tests.codecs import tiny_codecs
from tests.models import tiny_families
from tests.models.family_bases import MAKERS, names_of, prompt_of
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import families
from wavalign.models.description import InterleavedDescription, LayoutError
from wavalign.models.loading import load_base
from wavalign.models.memory_estimate import estimate_folder
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import Registry
from wavalign.models.registry_adding import Wish, look
from wavalign.models.registry_hints import hints
from wavalign.models.registry_layouts import layout_at, layout_of


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_a_repository_is_known_before_it_is_downloaded(family: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WAVALIGN_GLM4_VOICE", "WAVALIGN_STEP_AUDIO_2"):
        monkeypatch.delenv(name, raising=False)
    config = {"model_type": family.model_types[0], "architectures": list(family.architectures)}
    assert layout_of((), config, "it").name == "interleaved"
    facts, warnings = hints(config, None, "owner/name", False)
    assert facts == {"Family": family.title}
    assert any("git clone" in warning for warning in warnings)
    hears = family.name in ("vita-audio-plus", "step-audio-2")
    assert any("WAVALIGN_TRUST_REMOTE_CODE=owner/name" in warning for warning in warnings) is hears


def test_a_hub_folder_is_known_by_its_config_alone_and_brings_its_familys_codec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_families.make_vita(tmp_path / "VITA-Audio-Plus-Vanilla", codes=16384)
    assert layout_at("vita", folder).name == "interleaved"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.delenv("WAVALIGN_GLM4_VOICE", raising=False)
    looked = look(Registry(tmp_path / "assets"), Wish(str(folder)))
    assert looked.facts["Family"] == "VITA-Audio-Plus"
    wanted = (
        "hf download THUDM/glm-4-voice-tokenizer",
        "hf download THUDM/glm-4-voice-decoder",
        "GLM4_VOICE=",
        "hears",
    )
    assert len(looked.warnings) == len(wanted)
    assert all(each in warning for each, warning in zip(wanted, looked.warnings, strict=True))
    with pytest.raises(CheckpointError, match=r"^[^\n]*hf download THUDM/glm-4-voice-tokenizer[^\n]*[.]$"):
        load_base("vita", folder)
    before = looked.estimate.stored
    tiny_codecs.make_glm4_tokenizer(tmp_path / "glm-4-voice-tokenizer", codes=16384)
    tiny_codecs.make_glm4_decoder(tmp_path / "glm-4-voice-decoder")
    monkeypatch.setenv("WAVALIGN_GLM4_VOICE", str(tiny_codecs.make_glm4_checkout(tmp_path / "GLM-4-Voice")))
    looked = look(Registry(tmp_path / "assets"), Wish(str(folder)))
    assert len(looked.warnings) == 1
    assert looked.estimate.stored > before + 16384 * 16 * 4  # the codec's weights are counted
    base = load_base("vita", folder)
    assert base.codec.tokens_per_second == 12.5
    assert base.tokens.description.speech_count == 16384
    assert names_of(base, [base.tokens.speech_start + 16383]) == ["<|audio_16383|>"]
    assert "WAVALIGN_TRUST_REMOTE_CODE" in base.deaf


@pytest.mark.parametrize("family", MAKERS)
def test_a_checkpoints_tensors_give_the_logits_of_the_network_they_came_from(bases: dict, family: str) -> None:
    base = bases[family]
    torch.manual_seed(0)
    theirs = tiny_families.network_of(family, base.tokens.vocabulary_size)
    if family == "step-audio-2":
        theirs.lm_head.weight.data[base.tokens.speech_pad] = 0
    ids = torch.arange(200)[None]
    with torch.no_grad():
        assert torch.allclose(base.network(ids).logits, theirs(ids).logits, atol=1e-6)
    assert base.network.config.rope_parameters["rope_theta"] == (1e4 if family == "glm-4-voice" else 1e6)


def test_glm_4s_byte_pairs_are_read_as_the_tokenizer_that_wrote_them(bases: dict) -> None:
    pairs = tiny_families.byte_pairs()
    for text in ("what is plus", "Ünïcode 123 four!\n\n x"):
        ids = bases["glm-4-voice"].tokenizer(text, add_special_tokens=False)["input_ids"]
        assert bases["glm-4-voice"].tokenizer.decode(ids) == text
    assert bases["glm-4-voice"].tokenizer("three")["input_ids"] == pairs.encode("three").ids


def test_layers_that_predict_more_tokens_at_once_are_left_out(tmp_path: Path) -> None:
    """VITA-Audio-Boost: 38 layers, of which the last 10 are such."""
    tiny.make_tiny_codec(tmp_path / "tiny-codec")
    told = {"extends": "vita-audio", "speech_count": 64, "codec": "../tiny-codec"}
    folder = tiny_families.make_vita(tmp_path / "boost", **told)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "qwen2_mtp", "num_hidden_layers": 2, "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))
    base = load_base("boost", folder)
    assert base.network.config.num_hidden_layers == 1
    spoken = Dialogue((Turn("user", codes=(3, 4)),))
    said = "<|im_start|>user\n<|begin_of_audio|><|audio_3|><|audio_4|><|end_of_audio|><|im_end|>\n"
    assert said in prompt_of(base, spoken)


def test_speech_tokens_that_are_not_one_block_are_refused(folders: Path, bases: dict) -> None:
    told = json.loads((folders / "step-audio-2" / "interleaved.json").read_text())
    from wavalign.models.layout import resolve

    for changes, said in (({"speech_count": 66}, "<audio_65>"), ({"reply_end": "<tts_over>"}, "<tts_over>")):
        with pytest.raises(LayoutError, match=said):
            resolve(InterleavedDescription.parse({**told, **changes}), bases["step-audio-2"].tokenizer, 500)


def test_the_estimate_knows_the_caches_of_every_family(folders: Path) -> None:
    """Keys and values: 2 x 2 layers x 2 heads x 8 numbers x 1024 tokens x 2 replies, of 4 bytes each."""
    assert {estimate_folder(folders / name).cache for name in MAKERS} == {2 * 2 * 2 * 8 * 1024 * 2 * 4}
