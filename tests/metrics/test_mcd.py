from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.tones import RATE, joined, silence, voice
from wavalign.audio import Waveform
from wavalign.metrics.mcd import mel_cepstral_distortion, mel_cepstrum, warping_path


def test_identical_speech_has_no_distortion():
    speech = voice(150.0)
    assert mel_cepstral_distortion(speech, speech) == 0.0
    assert mel_cepstral_distortion(speech, speech, align=True) == 0.0


def test_level_alone_is_no_distortion():
    assert mel_cepstral_distortion(voice(150.0, level=0.1), voice(150.0, level=0.02)) < 0.05


def test_a_known_filter_has_its_distortion():
    """ln|H| = 0.3 cos(w~) on the mel axis adds 0.3 to c_1, so the MCD is 4.343 * sqrt(2) * 0.3 = 1.843 dB."""
    hum = voice(np.linspace(120.0, 180.0, RATE), 1.0).samples
    speech = Waveform(hum + 0.05 * np.random.default_rng(1).standard_normal(RATE), RATE)
    spectrum = np.fft.rfft(speech.samples)
    hz = np.linspace(0, RATE / 2, len(spectrum))
    warped = np.pi * np.log10(1 + hz / 700) / np.log10(1 + RATE / 2 / 700)
    filtered = Waveform(np.fft.irfft(spectrum * np.exp(0.3 * np.cos(warped)), RATE), RATE)
    assert mel_cepstral_distortion(speech, filtered) == pytest.approx(1.843, rel=0.04)


def test_silence_of_the_reference_is_no_number():
    assert mel_cepstral_distortion(silence(0.5), voice(150.0)) is None
    assert mel_cepstral_distortion(voice(150.0), silence(0.5), align=True) is None


def test_warping_forgives_a_shift_in_time():
    low = Waveform(voice(120.0, 0.4).samples, RATE)
    speech = joined(low, voice(190.0, 0.4))
    later = joined(silence(0.3), speech)
    assert mel_cepstral_distortion(speech, later, align=True) < 0.5
    assert mel_cepstral_distortion(speech, later) > 2.0


def test_the_path_through_a_small_table_is_the_cheapest():
    # By hand: 0 + 0 + 1 + 0 = 1; every path that leaves these cells pays a 9.
    cost = np.array([[0.0, 9.0, 9.0, 9.0], [9.0, 0.0, 1.0, 9.0], [9.0, 9.0, 9.0, 0.0]])
    rows, columns = warping_path(cost)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (1, 1), (1, 2), (2, 3)]


def test_coefficients_have_one_row_every_ten_milliseconds():
    assert mel_cepstrum(voice(150.0, 0.5)).shape == (51, 24)
