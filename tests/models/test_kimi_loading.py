"""Kimi-Audio checkpoints: what is refused, whose code may run, what they take, and the codec of the published ones."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch

from evaluation.speed_gpu_rows import hum
from tests.models.tiny_kimi import CODES, OFFSET, make_checkout, make_published, make_tiny_kimi, make_tiny_kimi_adapter
from wavalign.codecs.kimi_audio import CHECKOUT, KimiAudioCodec
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import kimi_loading, registry_code
from wavalign.models.memory_estimate import cache_bytes, estimate_folder, stored_in
from wavalign.models.protocol import CheckpointError, Request, Sampling
from wavalign.models.registry import Registry
from wavalign.models.registry_adding import Wish, look
from wavalign.models.registry_layouts import layout_at

TRUST = "WAVALIGN_TRUST_REMOTE_CODE"
SPOKEN = Dialogue((Turn("user", speech=hum(0.9)),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_kimi(tmp_path_factory.mktemp("kimi") / "tiny-base")


# What is refused


def _copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder.parent / "tiny-codec", tmp_path / "tiny-codec", dirs_exist_ok=True)
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def _changed(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (lambda at: shutil.rmtree(at / "whisper-large-v3"), "the Whisper encoder that Kimi-Audio hears through"),
        (lambda at: _changed(at / "config.json", kimia_token_offset=OFFSET + 8), r"has 56 speech tokens .* 64 codes"),
        (lambda at: _changed(at / "config.json", kimia_token_offset=300), "320 tokens, but from 300"),
        (lambda at: _changed(at / "config.json", kimia_media_end=5), r"<\|im_media_end\|> is token \d+ of its tok.* 5"),
        (lambda at: _changed(at / "config.json", kimia_adaptor_input_dim=33), "does not fit its config.json"),
        (lambda at: _changed(at / "config.json", kimia_mimo_audiodelaytokens=None), "lacks kimia_mimo_audiodelayt"),
        (lambda at: (at / "marks.model").write_text('["[PAD]"]'), r'has no token "<\|im_msg_end\|>"'),
        (lambda at: (at / "marks.model").unlink(), "marks.model is missing"),
        (lambda at: _changed(at / "kimi_audio.json", codec=3), "codec must be the path of a folder"),
        (lambda at: _changed(at / "kimi_audio.json", voice="x"), "must be an object with whisper, codec and sampling"),
        (lambda at: (at / "kimi_audio.json").unlink(), r"lacks audio_detokenizer/config\.yaml"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_one_sentence(
    folder: Path, tmp_path: Path, breaking: Any, words: str
) -> None:
    copied = _copied(folder, tmp_path)
    breaking(copied)
    with pytest.raises(CheckpointError, match=words) as caught:
        kimi_loading.load_base("copied", copied, trust_remote_code=True)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_reaches_beyond_the_layers_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = kimi_loading.load_base("tiny-base", folder, trust_remote_code=True)
    adapter = make_tiny_kimi_adapter(tmp_path / "far", folder)
    weights = load_file(adapter / "adapter_model.safetensors")
    assert {key.split(".")[3] for key in weights} == {"layers", "mimo_layers"}
    renamed = {key.replace("model.layers.0.mlp.up_proj", "lm_head"): tensor for key, tensor in weights.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r'"far" changes lm_head, and in "tiny-base" only'):
        kimi_loading.attach(base, "far", adapter)


def test_rotations_have_the_base_that_the_published_config_tells(folder: Path, tmp_path: Path) -> None:
    """It was written as transformers 4 wrote it; what full fine-tuning writes says the same."""
    copied = _copied(folder, tmp_path)
    config = json.loads((copied / "config.json").read_text())
    config.pop("rope_parameters", None)
    (copied / "config.json").write_text(json.dumps({**config, "rope_theta": 1e6}))
    base = kimi_loading.load_base("copied", copied, trust_remote_code=True)
    base.export(tmp_path / "exported", copied)
    again = kimi_loading.load_base("exported", tmp_path / "exported", trust_remote_code=True)
    steps = torch.arange(0, 8, 2) / 8  # a head has 32 / 4 numbers
    for each in (base, again):
        rotary = each.full.model.mimo_layers[1].self_attn.rotary_emb
        assert torch.allclose(rotary.inv_freq, 1e6**-steps)
        assert torch.allclose(rotary.cos_cached[3, :4], torch.cos(3 * 1e6**-steps))


# The host's choice


def test_the_page_tells_the_layout_and_asks_for_the_hosts_choice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRUST, raising=False)
    copied = _copied(folder, tmp_path)
    registry = Registry(tmp_path / "none", tmp_path)
    looked = look(registry, Wish(str(copied)))
    assert looked.layout == layout_at("copied", copied).name == "parallel"
    assert f"{TRUST}={copied}" in looked.warnings[0]
    with pytest.raises(CheckpointError, match=f"{TRUST}={copied}"):
        Registry(tmp_path).load(["copied"])
    monkeypatch.setenv(TRUST, str(copied))
    assert not look(registry, Wish(str(copied))).warnings


def test_the_estimate_counts_the_audios_layers_and_what_stands_beside(folder: Path) -> None:
    told = estimate_folder(folder)
    files = (folder / "model.safetensors", folder / "whisper-large-v3" / "model.safetensors")
    beside = next((folder.parent / "tiny-codec").glob("*.safetensors"))
    assert told.weights == sum(stored_in(file).loaded(4) for file in (*files, beside))
    config = json.loads((folder / "config.json").read_text())
    assert told.cache == cache_bytes(config, 4) == 2 * (3 + 2) * 2 * 8 * 512 * 2 * 4  # layers, heads, size, context


def test_an_optimisers_state_in_the_detokenizers_file_is_not_counted(tmp_path: Path) -> None:
    weights = {"speech_model.a": torch.zeros(10, 10), "speech_model.b": torch.zeros(7, dtype=torch.bfloat16)}
    torch.save({"state_dict": weights, "optimizer": {"moments": torch.zeros(10_000)}}, tmp_path / "model.pt")
    torch.save({"generator": weights}, tmp_path / "vocoder.pt")
    assert dict(stored_in(tmp_path / "model.pt").floats) == {4: 400, 2: 14}
    assert stored_in(tmp_path / "vocoder.pt").others == (tmp_path / "vocoder.pt").stat().st_size


def test_the_same_python_files_elsewhere_may_run_and_others_may_not(folder: Path, tmp_path: Path) -> None:
    environment = {TRUST: str(folder)}
    copied = _copied(folder, tmp_path)
    assert registry_code.may_run_code_in(folder, environment=environment)
    assert registry_code.may_run_code_in(copied, environment=environment)
    assert not registry_code.may_run_code_in(copied, environment={})
    with (copied / "tokenization_kimia.py").open("a") as file:
        file.write("\n")
    assert not registry_code.may_run_code_in(copied, environment=environment)


def test_the_copy_of_a_named_repository_in_the_hubs_cache_may_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "models--some--kimi" / "snapshots" / "0123"
    shutil.copytree(folder, cached)
    copied = _copied(folder, tmp_path)  # as a run that starts from it, or what it made, knows it: a folder
    for each in (cached, copied):
        assert registry_code.may_run_code_in(each, environment={TRUST: "some/kimi"})
        assert not registry_code.may_run_code_in(each, environment={TRUST: "some/other"})


def test_code_that_is_borrowed_from_another_repository_may_not_run(folder: Path, tmp_path: Path) -> None:
    copied = _copied(folder, tmp_path)
    _changed(copied / "config.json", auto_map={"AutoConfig": "someone/else--configuration.Config"})
    assert not registry_code.may_run_code_in(copied, environment={TRUST: str(folder)})


# The published codec


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kimia_infer"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv(CHECKOUT.variable, str(make_checkout(tmp_path / "Kimi-Audio")))
    return make_published(tmp_path / "published")


def test_a_folder_as_published_hears_and_speaks_through_the_familys_codec(published: Path) -> None:
    base = kimi_loading.load_base("published", published, trust_remote_code=True)
    assert (base.codec.sample_rate, base.codec.tokens_per_second) == (24_000, 12.5)
    prompt = base.encode_prompt(SPOKEN, 10)
    ((_, recording),) = prompt.heard
    assert len(recording.ids) == len(recording.features) == 12  # 0.9 s are 11.25 steps
    model = base.policy({"published": None})
    reply = model.reply_many([Request(SPOKEN, "published", Sampling(0.9, max_tokens=60, max_seconds=4.0))])[0]
    assert len(reply.waveform.samples) == 1920 * len(model.tokens.codes_of(reply.tokens))
    told = base.description.placed()
    assert told["codec"] == {"type": "kimi_audio", "detokenizer": str(published)}


@pytest.mark.parametrize("size", [1, 30, 31, 60, 75])
def test_a_stream_gives_out_what_the_whole_is(published: Path, size: int) -> None:
    codec = KimiAudioCodec.from_parts({}, published, torch.device("cpu"))
    codes = [code % CODES for code in range(size)]
    whole = codec.decode(codes).samples
    stream = codec.stream()
    pieces = [stream.push(codes[start : start + 7]) for start in range(0, size, 7)]
    assert any(map(len, pieces)) == (size > 30)
    assert np.array_equal(np.concatenate([*pieces, stream.finish()]), whole)
    assert len(whole) == 1920 * size


def test_replies_that_are_spoken_at_the_same_time_do_not_hear_each_other(published: Path) -> None:
    codec = KimiAudioCodec.from_parts({}, published, torch.device("cpu"))
    said = [[code % CODES for code in range(70)], [code % CODES for code in range(70, 0, -1)]]
    both = [codec.stream(), codec.stream()]
    made: list[list[np.ndarray]] = [[], []]
    for start in range(0, 70, 10):
        for number, stream in enumerate(both):
            made[number].append(stream.push(said[number][start : start + 10]))
    for number, stream in enumerate(both):
        spoken = np.concatenate([*made[number], stream.finish()])
        assert np.array_equal(spoken, codec.decode(said[number]).samples)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("audio_detokenizer/model.pt", r"The detokenizer in .* lacks audio_detokenizer/model\.pt"),
        ("vocoder/config.json", r"lacks vocoder/config\.json"),
        ("glm-4-voice-tokenizer", "hf download THUDM/glm-4-voice-tokenizer"),
        ("checkout", "WAVALIGN_KIMI_AUDIO=FOLDER"),
    ],
)
def test_what_the_familys_codec_lacks_is_one_sentence(
    published: Path, gone: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    if gone == "checkout":
        monkeypatch.delenv(CHECKOUT.variable)
    elif (published / gone).is_dir():
        shutil.rmtree(published / gone)
    else:
        (published / gone).unlink()
    with pytest.raises(CheckpointError, match=words) as caught:
        kimi_loading.load_base("published", published, trust_remote_code=True)
    assert "\n" not in str(caught.value)
