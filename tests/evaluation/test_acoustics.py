"""The acoustic measures of replies: hand-worked numbers, and what happens where something is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.acoustics import ACOUSTICS, Acoustics, loudness, prosody, semitones
from evaluation.acoustics_hearing import HearingError, open_hearing
from evaluation.acoustics_quality import QualityModels, dnsmos
from tests.metrics.tones import joined, silence, voice
from wavalign.audio import Waveform
from wavalign.metrics.recogniser import Recogniser

RATE = 16_000


def sine(level: float, seconds: float, hertz: float = 1000.0) -> Waveform:
    clock = np.arange(round(seconds * RATE)) / RATE
    return Waveform(level * np.sin(2 * np.pi * hertz * clock), RATE)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory) -> Path:
    assets = tmp_path_factory.mktemp("assets")
    torch.manual_seed(2)
    Recogniser(["hot", "cold", "big"], channels=8, blocks=1).save_pretrained(str(assets / "closedtalk-recogniser"))
    return assets


def without_quality() -> QualityModels:
    return QualityModels(dnsmos=False, utmos=Path("nowhere"))


def test_an_octave_above_100_hz_is_12_semitones():
    assert semitones(200.0) == pytest.approx(12.0)
    assert semitones(50.0) == pytest.approx(-12.0)
    assert semitones(None) is None


def test_the_pitch_of_a_steady_voice_is_its_own_and_does_not_vary():
    said = prosody(voice(np.full(16_000, 150.0), 1.0))
    assert said["f0_median"] == pytest.approx(12 * np.log2(1.5), abs=0.1)
    assert said["f0_sd"] < 0.2


def test_half_a_second_of_silence_in_the_middle_is_a_pause():
    half = voice(np.full(8000, 120.0), 0.5)
    assert prosody(joined(half, silence(0.5), half))["pause_ratio"] == pytest.approx(1 / 3, abs=0.03)


def test_a_full_scale_sine_of_1_khz_is_at_minus_3_lufs():
    # BS.1770: 0 dBFS at 997 Hz in one channel is -3.01 LKFS.
    assert loudness(sine(1.0, 2.0)) == pytest.approx(-3.01, abs=0.1)
    assert loudness(sine(0.1, 2.0)) == pytest.approx(-23.01, abs=0.1)


def test_what_cannot_be_measured_is_none():
    assert loudness(sine(0.5, 0.3)) is None
    assert loudness(silence(2.0)) is None
    said = prosody(silence(1.0))
    assert said.pop("seconds") == pytest.approx(1.0)
    assert set(said.values()) == {None}


def test_a_better_end_is_only_claimed_where_there_is_one():
    better = {metric.name: metric.better for metric in ACOUSTICS}
    assert better["wer"] == "lower"
    for neutral in ("f0_median", "f0_sd", "energy_sd", "articulation_rate", "pause_ratio", "loudness", "seconds"):
        assert better[neutral] is None
    assert all(metric.caveat for metric in ACOUSTICS)


def test_word_errors_are_weighed_by_words(recogniser, monkeypatch):
    monkeypatch.setattr(Recogniser, "transcribe", lambda self, waveforms: ["hot cold"])
    measures = Acoustics(open_hearing("embedded", recogniser), without_quality())
    hum = voice(np.full(8000, 120.0), 0.5)
    right, wrong, wordless = measures.measure(
        [("Hot, cold!", hum, True), ("hot cold big big", hum, False), ("", hum, True)]
    )
    assert (right.values["wer"], right.weights["wer"]) == (0.0, 2.0)
    assert (wrong.values["wer"], wrong.weights["wer"]) == (0.5, 4.0)
    assert wordless.values["wer"] is None
    assert not wordless.failed
    assert (right.values["finished"], wrong.values["finished"]) == (1.0, 0.0)


def test_words_that_the_embedded_recogniser_does_not_know_fail_and_are_not_counted_as_errors(recogniser):
    measures = Acoustics(open_hearing("embedded", recogniser), without_quality())
    (said,) = measures.measure([("hot parliament", voice(np.full(8000, 120.0), 0.5), True)])
    assert said.values["wer"] is None
    assert said.transcript is None
    assert '"parliament"' in said.failed["wer"]


def test_without_a_recogniser_there_is_a_sentence_and_no_metric(tmp_path):
    measures = Acoustics(open_hearing("embedded", tmp_path), without_quality())
    assert "restore the assets" in measures.unavailable["wer"]
    assert "wer" not in {metric.name for metric in measures.metrics}
    (said,) = measures.measure([("hot", sine(0.1, 1.0), True)])
    assert "wer" not in said.values


def test_a_whisper_that_is_not_here_is_one_sentence():
    with pytest.raises(HearingError, match="is not on this machine"):
        open_hearing("openai/whisper-nowhere", Path("."))


def test_whisper_listens_through_transformers_and_numbers_are_compared_alike(tmp_path):
    hearing = open_hearing(str(tiny_whisper(tmp_path / "whisper")), tmp_path)
    (heard,) = hearing.hear([("seven", sine(0.1, 1.0, 300.0))])
    assert isinstance(heard.text, str)
    assert hearing.comparable("It is twenty-one.", "it is 21") == ("it is 21", "it is 21")


def tiny_whisper(folder: Path) -> Path:
    """Random weights and a tokenizer of single letters."""
    import wavalign.torchaudio_guard  # noqa: F401

    # isort: split
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    letters = {letter: place for place, letter in enumerate("abcdefghijklmnopqrstuvwxyzĠ")}
    vocabulary = letters | {"<|endoftext|>": 27, "<|startoftranscript|>": 28, "<|notimestamps|>": 29}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": max(64, len(tokenizer))}
    special = {"bos_token_id": 27, "eos_token_id": 27, "pad_token_id": 27, "decoder_start_token_id": 28}
    config = WhisperConfig(**sizes, **heads, **special, max_target_positions=24, suppress_tokens=None)
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config.max_length = 12
    model.save_pretrained(str(folder))
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(str(folder))
    return folder


def test_dnsmos_is_what_the_released_code_computes(monkeypatch):
    """Its module wants librosa for a score that is not used here; a stand-in gives it features of the right shape."""
    frames = lambda y, n_mels, **_: np.zeros((n_mels, 1 + (len(y) - 1) // 160), np.float32)  # noqa: E731
    librosa = types.ModuleType("librosa")
    librosa.feature = types.SimpleNamespace(melspectrogram=frames)
    librosa.power_to_db = lambda mel, ref: mel
    monkeypatch.setitem(sys.modules, "librosa", librosa)
    if "requests" not in sys.modules:
        requests = types.ModuleType("requests")
        requests.session = None
        monkeypatch.setitem(sys.modules, "requests", requests)
    from speechmos import dnsmos as released

    models = QualityModels()
    for seconds in (1.3, 11.0):
        samples = np.tile(voice(np.full(8000, 130.0), 0.5).resampled(RATE).samples, 24)[: round(seconds * RATE)]
        theirs = released.run(samples, RATE)
        ours = dnsmos(models._dnsmos, samples)
        assert ours["dnsmos_overall"] == pytest.approx(float(theirs["ovrl_mos"]), abs=1e-4)
        assert ours["dnsmos_signal"] == pytest.approx(float(theirs["sig_mos"]), abs=1e-4)
        assert ours["dnsmos_background"] == pytest.approx(float(theirs["bak_mos"]), abs=1e-4)


def test_dnsmos_prefers_a_clean_voice_to_the_same_in_noise():
    # Half of a voice-like hum's level in white noise: the background must be rated worse.
    clean = voice(np.full(32_000, 130.0), 2.0).resampled(RATE)
    noise = 0.5 * np.std(clean.samples) * np.random.default_rng(0).standard_normal(len(clean.samples))
    models = QualityModels()
    (good, _), (bad, _) = models.score(clean), models.score(Waveform(clean.samples + noise, RATE))
    assert good["dnsmos_background"] > bad["dnsmos_background"] + 0.3
    assert models.score(silence(1.0))[0]["dnsmos_overall"] is None


def test_utmos_is_a_sentence_without_its_weights_and_a_number_with_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "fetches them once" in QualityModels(dnsmos=False).unavailable["utmos"]
    checkout = tmp_path / "hub" / "tarepan_SpeechMOS_v1.2.0"
    checkout.mkdir(parents=True)
    (checkout / "hubconf.py").write_text(
        "import torch\ndependencies = ['torch']\nclass Mean(torch.nn.Module):\n"
        "    def forward(self, wave, sr):\n        return 3 + 0 * wave.mean(1)\n"
        "def utmos22_strong():\n    return Mean()\n"
    )
    (tmp_path / "hub" / "checkpoints").mkdir()
    (tmp_path / "hub" / "checkpoints" / "utmos22_strong_step7459_v1.pt").write_bytes(b"")
    models = QualityModels(dnsmos=False)
    assert "utmos" not in models.unavailable
    assert models.score(sine(0.1, 1.0))[0]["utmos"] == 3.0
