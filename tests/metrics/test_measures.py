from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.tones import RATE, joined, silence, vibrato, voice
from wavalign.audio import Waveform
from wavalign.metrics.measures import letter_count, measure
from wavalign.metrics.pitch import pitch_contour


def test_a_steady_voice_has_its_pitch_and_no_spread():
    measures = measure(voice(200.0))
    assert measures.f0_median_hz == pytest.approx(200.0, abs=1.0)
    assert measures.f0_sd_semitones < 0.1


def test_vibrato_of_two_semitones_has_a_spread_of_two_over_root_two():
    measures = measure(voice(vibrato(200.0, 2.0, 3.0), 2.0))
    assert measures.f0_sd_semitones == pytest.approx(2.0 / np.sqrt(2.0), rel=0.08)
    # The 5th and 95th percentile of a sine of depth 2 are -+2 sin(0.45 pi) = -+1.975.
    assert measures.f0_range_semitones == pytest.approx(3.95, rel=0.08)


@pytest.mark.parametrize("f0", [72.0, 96.0, 170.0, 260.0])
def test_pitch_is_not_an_octave_off(f0):
    assert measure(voice(f0)).f0_median_hz == pytest.approx(f0, rel=0.02)


def test_level_is_the_rms_in_dbfs_of_what_is_said():
    sentence = joined(silence(0.5), voice(150.0, 1.0, level=0.1), silence(0.5))
    assert measure(sentence).energy_db == pytest.approx(-20.0, abs=0.4)


def test_half_the_amplitude_is_six_decibels_less():
    loud, soft = measure(voice(150.0, level=0.1)), measure(voice(150.0, level=0.05))
    assert loud.energy_db - soft.energy_db == pytest.approx(6.02, abs=0.05)


def test_a_pause_inside_counts_and_silence_around_does_not():
    said = voice(150.0, 1.0)
    measures = measure(joined(silence(0.7), said, silence(0.5), said, silence(0.9)))
    # A frame of 25 ms sees the voice up to 12.5 ms outside of it on either side.
    assert measures.pause_ratio == pytest.approx(0.5 / 2.5, abs=0.02)
    assert measures.speech_seconds == pytest.approx(2.0, abs=0.07)


def test_each_burst_is_a_syllable():
    burst, gap = voice(150.0, 0.12), voice(150.0, 0.08, level=0.01)
    measures = measure(joined(*[burst, gap] * 5))
    assert measures.articulation_rate == pytest.approx(5.0, rel=0.1)


def test_rates_of_the_text_are_per_second_of_speech():
    measures = measure(voice(150.0, 2.0), text="It's two!")
    assert measures.words_per_second == pytest.approx(1.0, rel=0.03)
    assert measures.letters_per_second == pytest.approx(3.0, rel=0.03)
    assert letter_count("It's two!") == 6


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(RATE), 1e-5 * np.ones(RATE)])
def test_silence_has_no_measures(samples):
    measures = measure(Waveform(samples, RATE), text="seven")
    assert measures.seconds == len(samples) / RATE
    values = [getattr(measures, name) for name in measures.__dataclass_fields__ if name != "seconds"]
    assert values == [None] * len(values)


def test_noise_has_a_level_but_no_pitch():
    noise = Waveform(0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    measures = measure(noise)
    assert measures.energy_db == pytest.approx(-20.0, abs=0.5)
    assert measures.voiced_share < 0.05


def test_fifty_milliseconds_are_measured_without_a_pitch():
    assert measure(voice(200.0, 0.05)).f0_median_hz is None


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_the_contour_has_a_value_every_ten_milliseconds_at_any_rate(rate):
    contour = pitch_contour(voice(200.0, 1.0, rate=rate))
    assert np.allclose(np.diff(contour.times), 0.01)
    assert contour.times[-1] == pytest.approx(1.0, abs=0.011)
    assert np.nanmedian(contour.f0) == pytest.approx(200.0, abs=1.0)


def test_the_contour_is_unvoiced_in_a_pause():
    contour = pitch_contour(joined(voice(150.0, 0.5), silence(0.5), voice(150.0, 0.5)))
    inside = (contour.times > 0.55) & (contour.times < 0.95)
    assert np.isnan(contour.f0[inside]).all()
    assert np.isfinite(contour.f0[(contour.times > 0.1) & (contour.times < 0.4)]).all()
