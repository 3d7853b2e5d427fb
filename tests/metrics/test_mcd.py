from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.tones import RATE, joined, silence, voice
from wavalign.audio import Waveform
from wavalign.metrics.mcd import ALPHA, mel_cepstral_distortion, mel_cepstrum, warping_path


def test_identical_speech_has_no_distortion():
    speech = voice(150.0)
    assert mel_cepstral_distortion(speech, speech) == 0.0
    assert mel_cepstral_distortion(speech, speech, align=True) == 0.0


def test_level_alone_is_no_distortion():
    assert mel_cepstral_distortion(voice(150.0, level=0.1), voice(150.0, level=0.02)) < 0.05


def test_a_known_filter_has_its_distortion():
    """A one-zero all-pass-warped filter: H = exp(a z~^-1) adds a to c_1, so the MCD is 10/ln10 sqrt(2) a.

    With a = 0.3 that is 4.343 * 1.4142 * 0.3 = 1.843 dB. The filter is applied in the frequency domain.
    """
    speech = voice(np.linspace(120.0, 180.0, RATE), 1.0)
    noise = np.random.default_rng(1).standard_normal(RATE) * 0.003
    speech = Waveform(speech.samples + noise, RATE)
    spectrum = np.fft.rfft(speech.samples)
    omega = np.linspace(0, np.pi, len(spectrum))
    warped = omega + 2 * np.arctan2(ALPHA * np.sin(omega), 1 - ALPHA * np.cos(omega))
    filtered = Waveform(np.fft.irfft(spectrum * np.exp(0.3 * np.exp(-1j * warped)), len(speech.samples)), RATE)
    assert mel_cepstral_distortion(speech, filtered) == pytest.approx(1.843, rel=0.06)


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
