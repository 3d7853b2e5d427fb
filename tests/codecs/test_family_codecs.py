"""The codecs of GLM-4-Voice (VITA-Audio's too) and Step-Audio 2, and what is said where a part of one is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.codecs import tiny_codecs as tiny
from wavalign.audio import Waveform
from wavalign.codecs.blocks import BlockStream
from wavalign.codecs.checkouts import check_recipe
from wavalign.codecs.glm4voice import CHECKOUT, open_tokenizer
from wavalign.codecs.loading import CodecError, codec_folders, open_codec

CPU = torch.device("cpu")
GLM = {"type": "glm4voice", "tokenizer": "THUDM/glm-4-voice-tokenizer", "decoder": "THUDM/glm-4-voice-decoder"}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint's folder, with the parts of both codecs where they are looked for."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    for name in ("flow_inference", "token2wav"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    folder = tmp_path / "base"
    tiny.make_glm4_tokenizer(tmp_path / "glm-4-voice-tokenizer")
    tiny.make_glm4_decoder(tmp_path / "glm-4-voice-decoder")
    tiny.make_token2wav(folder / "token2wav")
    monkeypatch.setenv("WAVALIGN_GLM4_VOICE", str(tiny.make_glm4_checkout(tmp_path / "GLM-4-Voice")))
    monkeypatch.setenv("WAVALIGN_STEP_AUDIO_2", str(tiny.make_step_checkout(tmp_path / "Step-Audio2")))
    yield folder
    for name in ("flow_inference", "token2wav"):
        sys.modules.pop(name, None)


def test_the_tokenizer_hears_a_code_each_80_ms_and_nothing_of_what_comes_blocks_later(base: Path) -> None:
    tokenizer = open_tokenizer("THUDM/glm-4-voice-tokenizer", base)
    assert (tokenizer.codebook_size, tokenizer.tokens_per_second) == (64, 12.5)
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * 16_000).astype(np.float32)
    whole = tokenizer.encode(Waveform(noise, 16_000))
    assert len(whole) == 38  # 3 s / 80 ms, the last half full
    # A block of 20 frames at 50 Hz is 0.4 s, 5 codes: what is said after it changes none of them.
    changed = noise.copy()
    changed[2 * 16_000 :] = 0.2
    assert tokenizer.encode(Waveform(changed, 16_000))[:20] == whole[:20]
    assert tokenizer.encode(Waveform(np.zeros(0, np.float32), 16_000)) == []


def test_long_recordings_are_heard_in_segments_of_30_s(base: Path) -> None:
    tokenizer = open_tokenizer("THUDM/glm-4-voice-tokenizer", base)
    assert len(tokenizer.encode(Waveform(np.zeros(31 * 16_000, np.float32), 16_000))) == 375 + 13


@pytest.mark.parametrize("piece", [1, 8, 40])
def test_what_streams_is_what_decoding_gives_however_the_codes_come(base: Path, piece: int) -> None:
    for told, size, rate in ((GLM, 64, 1764), ({"type": "cosyvoice2"}, 6561, 960)):
        codec = open_codec(told, base, CPU)
        codes = np.random.default_rng(1).integers(0, size, 90).tolist()
        whole = codec.decode(codes)
        assert len(whole.samples) == 90 * rate
        assert whole.seconds == pytest.approx(90 / codec.tokens_per_second)
        stream, other = codec.stream(), codec.stream()
        parts = []
        for start in range(0, 90, piece):
            parts.append(stream.push(codes[start : start + piece]))
            other.push(codes[start : start + piece][::-1])  # another reply under way does not disturb it
        assert len(np.concatenate(parts)) > 40 * rate
        assert np.array_equal(np.concatenate([*parts, stream.finish()]), whole.samples)
        assert len(codec.decode([]).samples) == 0
        with pytest.raises(ValueError, match=f"0..{size - 1}"):
            codec.decode([size])


class Blocks:
    """A session that tells what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[int, bool]] = []

    def block(self, codes: list[int], last: bool) -> np.ndarray:
        self.given.append((len(codes), last))
        return np.zeros(len(codes), np.float32)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("codes", "ahead", "least", "given"),
    [
        (34, 0, 10, [(34, True)]),  # 25 and then 9 would leave less than 10 for the end
        (35, 0, 10, [(25, False), (10, True)]),
        (85, 0, 10, [(25, False), (50, False), (10, True)]),
        (185, 0, 10, [(25, False), (50, False), (50, False), (50, False), (10, True)]),
        (28, 3, 1, [(28, True)]),
        (29, 3, 1, [(28, False), (4, True)]),  # 25 with 3 ahead, which the last block hears again
        (0, 3, 1, []),
    ],
)
def test_blocks_are_cut_by_the_number_of_codes(codes: int, ahead: int, least: int, given: list) -> None:
    for piece in (1, 7, 200):
        session = Blocks()
        stream = BlockStream(lambda session=session: session, (25, 50), ahead, least)
        for start in range(0, codes, piece):
            stream.push(list(range(start, min(codes, start + piece))))
        stream.finish()
        assert session.given == given


def test_a_reply_that_was_dropped_leaves_nothing_behind(base: Path) -> None:
    codec = open_codec(GLM, base, CPU)
    stream = codec.stream()
    stream.push([1] * 60)
    assert codec.decoder.mel_overlap_dict
    del stream
    assert not codec.decoder.mel_overlap_dict


def test_a_checkout_that_cannot_stream_gives_the_whole_at_the_end(base: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WAVALIGN_STEP_AUDIO_2", str(tiny.make_step_checkout(tmp_path / "older", streaming=False)))
    codec = open_codec({"type": "cosyvoice2"}, base, CPU)
    stream = codec.stream()
    assert len(stream.push([1, 2, 3] * 30)) == 0
    assert np.array_equal(stream.finish(), codec.decode([1, 2, 3] * 30).samples)


def test_the_folders_of_its_parts_are_known(base: Path) -> None:
    assert [each.name for each in codec_folders(GLM, base)] == ["glm-4-voice-tokenizer", "glm-4-voice-decoder"]
    assert codec_folders({"type": "cosyvoice2", "decoder": "token2wav"}, base) == []  # in the checkpoint's own folder


@pytest.mark.parametrize(
    ("told", "broken", "said"),
    [
        (GLM, "glm-4-voice-tokenizer", "hf download THUDM/glm-4-voice-tokenizer"),
        (GLM, "glm-4-voice-decoder", 'hf download THUDM/glm-4-voice-decoder.*glm-4-voice-decoder, or.*"decoder"'),
        (GLM, "glm-4-voice-decoder/flow.pt", "lacks flow.pt"),
        (GLM, "glm-4-voice-tokenizer/model.safetensors", "tokenizer in .* cannot be loaded"),
        (GLM, "GLM-4-Voice", "WAVALIGN_GLM4_VOICE names .* no folder"),
        ({"type": "cosyvoice2"}, "base/token2wav", '"decoder" of its codec'),
        ({"type": "cosyvoice2"}, "Step-Audio2/assets/default_female.wav", "recording of the voice"),
        ({"type": "cosyvoice2", "voice": "/nowhere.wav"}, None, "/nowhere.wav is missing"),
        ({"type": "snac"}, None, 'type "snac"; those made of parts are: glm4voice, cosyvoice2'),
    ],
)
def test_what_is_missing_is_one_sentence(base: Path, tmp_path: Path, told: dict, broken: str | None, said: str) -> None:
    if broken:
        (tmp_path / broken).rename(tmp_path / "gone")
    with pytest.raises(CodecError, match=rf"^[^\n]*{said}[^\n]*[.]$"):
        open_codec(told, base, CPU)


def test_without_a_checkout_the_host_is_told_which(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAVALIGN_GLM4_VOICE")
    with pytest.raises(CodecError, match=r"git clone .*GLM-4-Voice and start the app with WAVALIGN_GLM4_VOICE=FOLDER"):
        open_codec(GLM, base, CPU)


@pytest.mark.parametrize(
    "recipe",
    [
        "x: !apply:os.system [ls]",
        "x: !new:subprocess.Popen [ls]",
        "x: !new:cosyvoice.flow.flow.os.system [ls]",  # by way of what a module of the family imports
        "x: !apply:cosyvoice.flow.flow.Flow []",
        "x: !new:cosyvoice.flow.flow.Other {}",
        "x: !new:cosyvoice....flow.Flow {}",
        "x: !include:other.yaml",
        "x: !!python/name:os.system",
        "%TAG ! !x\n---\na: 1",
    ],
)
def test_a_recipe_that_would_run_something_else_is_refused(base: Path, tmp_path: Path, recipe: str) -> None:
    (tmp_path / "config.yaml").write_text(recipe)
    with pytest.raises(CodecError, match=r"Use the folder as it is on the Hub[.]$"):
        check_recipe(tmp_path / "config.yaml", CHECKOUT)


def test_a_familys_own_recipe_passes(base: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "__seed: !apply:random.seed [1986]\nrate: 22050\nflow: !new:cosyvoice.flow.flow.Flow\n  rate: !ref <rate>\n"
        "  cfm: !new:omegaconf.DictConfig\n    content: {sigma: 1e-6}\nlater: !name:cosyvoice.flow.flow.Flow\n"
    )
    check_recipe(tmp_path / "config.yaml", CHECKOUT)
