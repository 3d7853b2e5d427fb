"""Two replies made alike in everything but what they say."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from app.equaliser import CEILING, TARGET_LUFS, SilentReplyError, equalise, loudness, true_peak
from tests.app.arena import hum
from wavalign import audio
from wavalign.audio import Waveform


def pair(left: Waveform, right: Waveform, seed: int = 0):
    return equalise({"left": left, "right": right}, np.random.default_rng(seed))


def test_level_rate_length_and_codec_are_the_same() -> None:
    quiet = Waveform(hum(1.4, 120, level=0.004).samples, 16_000)
    loud = hum(2.1, 210, level=0.25).resampled(24_000)
    sides = pair(quiet, loud)
    files = {side: soundfile.SoundFile(io.BytesIO(each.wav)) for side, each in sides.items()}
    assert {(f.samplerate, f.frames, f.subtype, f.channels) for f in files.values()} == {
        (16_000, files["left"].frames, "PCM_16", 1)
    }
    heard = {side: audio.read(each.wav).samples for side, each in sides.items()}
    levels = [sides[side].treatment.loudness_after for side in heard]
    assert abs(levels[0] - levels[1]) < 0.1
    assert levels[0] == pytest.approx(TARGET_LUFS, abs=0.2)
    assert {each.treatment.sample_rate_before for each in sides.values()} == {16_000, 24_000}
    starts = [int(np.flatnonzero(np.abs(each) > 0.01)[0]) / 16_000 for each in heard.values()]
    assert abs(starts[0] - starts[1]) < 0.03


def test_leading_silence_is_cut_and_measured() -> None:
    late = Waveform(np.concatenate([np.zeros(8_000, np.float32), hum(1.0).samples]), 16_000)
    sides = pair(late, hum(1.0))
    assert sides["left"].treatment.silence_cut == pytest.approx(0.48, abs=0.03)
    assert sides["right"].treatment.silence_cut == 0.0
    assert sides["left"].seconds == pytest.approx(sides["right"].seconds, abs=0.05)


def test_one_limiter_decision_for_both() -> None:
    clicks = hum(2.0, level=0.005).samples.copy()
    clicks[::4_000] = 0.9  # little loudness, high peaks: the target is far above the ceiling
    sides = pair(Waveform(clicks, 16_000), hum(2.0))
    assert {each.treatment.limited for each in sides.values()} == {True}
    levels = [each.treatment.loudness_after for each in sides.values()]
    assert abs(levels[0] - levels[1]) < 0.1
    for each in sides.values():
        assert true_peak(audio.read(each.wav).samples.astype(float)) <= CEILING * 1.03


def test_a_little_too_loud_turns_both_down_without_a_limiter() -> None:
    peaky = hum(2.0, level=0.02).samples.copy()
    peaky[8_000] = 0.15
    sides = pair(Waveform(peaky, 16_000), hum(2.0))
    assert {each.treatment.limited for each in sides.values()} == {False}
    levels = [each.treatment.loudness_after for each in sides.values()]
    assert abs(levels[0] - levels[1]) < 0.1
    assert levels[0] < TARGET_LUFS - 0.5


def test_every_battle_gets_bytes_and_lengths_of_its_own() -> None:
    first, second = (pair(hum(), hum(), seed)["left"] for seed in (1, 2))
    assert first.wav != second.wav
    assert len(first.wav) != len(second.wav)
    assert np.isclose(first.treatment.loudness_after, second.treatment.loudness_after)


@pytest.mark.parametrize("nothing", [np.zeros(16_000), np.zeros(0), np.full(16_000, 1e-6), np.full(16_000, np.nan)])
def test_side_without_sound_is_named(nothing: np.ndarray) -> None:
    with pytest.raises(SilentReplyError) as caught:
        pair(hum(), Waveform(nothing, 16_000))
    assert caught.value.side == "right"


def test_loudness_of_a_sine() -> None:
    """A full-scale sine of 997 Hz reads -3.01 LUFS (ITU-R BS.1770-4), also when it lasts a tenth of a second."""
    clock = np.arange(48_000) / 48_000
    sine = np.sin(2 * np.pi * 997 * clock)
    assert loudness(sine, 48_000) == pytest.approx(-3.01, abs=0.1)
    assert loudness(sine[:4_800], 48_000) == pytest.approx(-3.01, abs=0.4)
