"""Every odd thing a visitor may hand in is a turn or one sentence."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from app.intake import IntakeError, speech_turn, typed_turn
from app.settings import Limits

LIMITS = Limits()


def voice(seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> np.ndarray:
    time = np.arange(int(rate * seconds)) / rate
    mono = 0.2 * np.sin(2 * np.pi * 140 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    return np.repeat(mono[:, None], channels, axis=1) if channels > 1 else mono


def saved(folder, samples, rate=16000, name="turn.wav", **how):
    soundfile.write(folder / name, samples, rate, **how)
    return folder / name


def sentence(folder, *args, **how) -> str:
    with pytest.raises(IntakeError) as caught:
        speech_turn(saved(folder, *args, **how), LIMITS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "how"),
    [
        ("plain.wav", 16000, 1, {}),
        ("studio.wav", 48000, 2, {"subtype": "PCM_24"}),
        ("phone.wav", 8000, 1, {"subtype": "ULAW"}),
        ("song.mp3", 44100, 2, {}),
        ("voice.ogg", 48000, 1, {}),
        ("lossless.flac", 96000, 1, {"subtype": "PCM_24"}),
        ("six.wav", 44100, 6, {}),
    ],
)
def test_every_usual_file_is_mono_at_16_khz(tmp_path, name, rate, channels, how):
    turn = speech_turn(saved(tmp_path, voice(1.0, rate, channels), rate, name, **how), LIMITS)
    assert turn.speech.sample_rate == 16000
    assert turn.speech.seconds == pytest.approx(1.0, abs=0.1)
    assert turn.speech.peak() > 0.1


def test_silence(tmp_path):
    assert "is silent" in sentence(tmp_path, np.zeros(16000))
    assert "is silent" in sentence(tmp_path, 1e-4 * np.random.default_rng(0).standard_normal(16000))


def test_fifty_milliseconds(tmp_path):
    assert "only 50 ms" in sentence(tmp_path, voice(0.05))


def test_ten_minutes(tmp_path):
    assert "600 s long; the limit is 30 s" in sentence(tmp_path, voice(600, 8000), 8000)


def test_a_text_file_named_wav(tmp_path):
    (tmp_path / "notes.wav").write_text("this is not audio\n" * 50)
    with pytest.raises(IntakeError, match="not audio we can read"):
        speech_turn(tmp_path / "notes.wav", LIMITS)


def test_an_empty_file_and_no_file(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    for name in ("empty.wav", "missing.wav"):
        with pytest.raises(IntakeError, match="not audio we can read"):
            speech_turn(tmp_path / name, LIMITS)


def test_no_samples_at_all(tmp_path):
    assert "empty" in sentence(tmp_path, np.zeros(0))


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_a_truncated_wav_is_what_is_left_of_it_or_a_sentence(tmp_path, share):
    path = saved(tmp_path, voice(1.0))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    try:
        assert speech_turn(path, LIMITS).speech.seconds <= 1.0
    except IntakeError as error:
        assert str(error).endswith(".")


def test_samples_that_are_not_numbers(tmp_path):
    samples = voice(1.0)
    samples[100] = np.nan
    assert "not numbers" in sentence(tmp_path, samples, subtype="FLOAT")


def test_floats_far_beyond_full_scale_are_scaled_back(tmp_path):
    turn = speech_turn(saved(tmp_path, 1e6 * voice(1.0), subtype="FLOAT"), LIMITS)
    assert turn.speech.peak() == pytest.approx(1.0, abs=0.1)


def test_an_absurd_sample_rate(tmp_path):
    assert "samples a second" in sentence(tmp_path, voice(1.0, 16000)[:50], 10)


@pytest.mark.parametrize("text", [None, "", "   ", "\n\t"])
def test_an_empty_prompt(text):
    with pytest.raises(IntakeError, match="Nothing to answer yet"):
        typed_turn(text, LIMITS)


def test_ten_thousand_characters():
    with pytest.raises(IntakeError, match="10,000 characters; the limit is 1,000"):
        typed_turn("x" * 10_000, LIMITS)


@pytest.mark.parametrize("text", ["🙂🎉", "¿qué es siete más cinco?", "七加五是多少", "\u202eright to left", "a\x00b"])
def test_emoji_and_other_languages_are_turns(text):
    assert typed_turn(text, LIMITS).text


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_end_in_anything_but_a_turn_or_a_sentence(tmp_path_factory, noise, with_header):
    buffer = io.BytesIO()
    soundfile.write(buffer, voice(0.3), 16000, format="WAV")
    path = tmp_path_factory.mktemp("noise") / "turn.wav"
    path.write_bytes((buffer.getvalue()[:40] if with_header else b"") + noise)
    try:
        assert speech_turn(path, LIMITS).speech.seconds <= LIMITS.turn_seconds + 0.1
    except IntakeError as error:
        assert str(error).endswith(".")
        assert "\n" not in str(error)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=1200))
def test_no_text_ends_in_anything_but_a_turn_or_a_sentence(text):
    try:
        assert typed_turn(text, LIMITS).text
    except IntakeError as error:
        assert str(error).endswith(".")


def flac_that_claims(frames: int, seconds: float) -> bytes:
    """A FLAC file whose header says another length: the last 36 bits of STREAMINFO's counts."""
    buffer = io.BytesIO()
    soundfile.write(buffer, voice(seconds), 16000, format="FLAC")
    data = bytearray(buffer.getvalue())
    at = data.index(b"fLaC") + 8 + 13
    data[at] = data[at] & 0xF0 | frames >> 32 & 0xF
    data[at + 1 : at + 5] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


def refused(path) -> str:
    with pytest.raises(IntakeError) as caught:
        speech_turn(path, LIMITS)
    return str(caught.value)


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "long.ogg", "long.mp3"])
def test_too_long_by_its_header_is_refused_before_anything_is_decoded(tmp_path, name, monkeypatch):
    path = saved(tmp_path, voice(31.0), name=name)
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda *_, **__: pytest.fail("decoded"))
    assert "31 s long; the limit is 30 s" in refused(path)


def test_a_header_that_tells_no_length_or_a_shorter_one_decodes_no_more_than_it_tells(tmp_path):
    (tmp_path / "none.flac").write_bytes(flac_that_claims(0, 90.0))
    assert "does not say how long it is" in refused(tmp_path / "none.flac")
    (tmp_path / "short.flac").write_bytes(flac_that_claims(16000, 90.0))
    assert speech_turn(tmp_path / "short.flac", LIMITS).speech.seconds == pytest.approx(1.0)


def test_a_header_that_claims_more_than_there_is_takes_no_memory_for_it(tmp_path):
    (tmp_path / "huge.flac").write_bytes(flac_that_claims(2**36 - 1, 2.0))
    assert "the limit is 30 s" in refused(tmp_path / "huge.flac")
    wide = saved(tmp_path, np.zeros((100, 1000)), name="wide.wav")
    assert "1000 channels" in refused(wide)
    header = bytearray(saved(tmp_path, voice(1.0), name="fast.wav").read_bytes())
    header[24:28] = (2**31 - 1).to_bytes(4, "little")
    (tmp_path / "fast.wav").write_bytes(header)
    assert "samples a second" in refused(tmp_path / "fast.wav")
