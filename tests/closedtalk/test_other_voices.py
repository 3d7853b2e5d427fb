"""User voices of other synthesisers and of people: tested where the programs are, skipped with the reason elsewhere."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavalign.audio import Waveform
from wavalign.closedtalk.other_voices import (
    DIGITS,
    PROBE_SPEAKER,
    HumanDigits,
    OtherVoiceError,
    festival_speech,
    flite_speech,
)

SENTENCE = "what is seven plus five"
needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
needs_festival = pytest.mark.skipif(shutil.which("text2wave") is None, reason="festival is not installed")


def pitch(waveform: Waveform) -> float:
    """The median F0 in Hz."""
    pyworld = pytest.importorskip("pyworld")
    f0, _ = pyworld.dio(waveform.samples.astype(np.float64), waveform.sample_rate)
    return float(np.median(f0[f0 > 0]))


@needs_flite
@pytest.mark.parametrize("voice", ["slt", "rms", "awb", "kal16"])
def test_flite_speaks_longer_when_stretched(voice: str) -> None:
    plain, stretched = flite_speech(SENTENCE, voice), flite_speech(SENTENCE, voice, duration_stretch=1.3)
    assert plain.sample_rate == 16000
    assert plain.peak() > 0.05
    assert 1.15 < stretched.seconds / plain.seconds < 1.4


@needs_flite
@pytest.mark.parametrize("voice", ["slt", "awb", "kal16"])
def test_flite_speaks_higher_when_shifted(voice: str) -> None:
    ratio = pitch(flite_speech(SENTENCE, voice, f0_shift=1.3)) / pitch(flite_speech(SENTENCE, voice))
    assert 1.2 < ratio < 1.4


@needs_flite
def test_flite_says_that_a_voice_with_recorded_pitch_cannot_be_shifted() -> None:
    with pytest.raises(OtherVoiceError, match="rms has a fixed pitch"):
        flite_speech(SENTENCE, "rms", f0_shift=1.3)


@needs_festival
def test_festival_speaks() -> None:
    spoken = festival_speech(SENTENCE, "kal_diphone")
    assert spoken.peak() > 0.05
    assert 1.0 < spoken.seconds < 4.0


def test_unknown_voices_are_named_in_the_error() -> None:
    with pytest.raises(OtherVoiceError, match="'robot'"):
        flite_speech(SENTENCE, "robot")
    with pytest.raises(OtherVoiceError, match="'robot'"):
        festival_speech(SENTENCE, "robot")


def test_a_missing_program_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OtherVoiceError, match="flite was not found; install flite"):
        flite_speech(SENTENCE, "slt")
    with pytest.raises(OtherVoiceError, match="text2wave was not found; install festival"):
        festival_speech(SENTENCE, "kal_diphone")


def tone(hertz: float, seconds: float, sample_rate: int, level: float) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * sample_rate)) / sample_rate)


@pytest.fixture
def digits(tmp_path: Path) -> HumanDigits:
    """Recordings in which digit d of the first speaker is a quiet tone of 400 + 100 d Hz."""
    for speaker in ("anna", PROBE_SPEAKER):
        for digit in range(10):
            for take in range(2):
                samples = tone(400 + 100 * digit, 0.3, 8000, 0.05)
                soundfile.write(tmp_path / f"{digit}_{speaker}_{take}.wav", samples, 8000)
    return HumanDigits(tmp_path)


def carrier(words: str) -> Waveform:
    """A 3 kHz tone of 0.2 s a word with an inaudible 6 kHz above it and silence around, 22.05 kHz."""
    spoken = tone(3000, 0.2 * len(words.split()), 22050, 0.4) + tone(6000, 0.2 * len(words.split()), 22050, 0.1)
    return Waveform(np.pad(spoken, 4000), 22050)


def strongest(samples: np.ndarray) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * 16000 / len(samples))


def test_the_probe_speaker_is_not_for_training(digits: HumanDigits) -> None:
    assert digits.speakers == ("anna", PROBE_SPEAKER)
    assert digits.training_speakers == ("anna",)


def test_spliced_digits_are_the_persons_and_the_other_words_the_carriers(digits: HumanDigits) -> None:
    """What is: 0.4 s of 3 kHz; seven: 0.3 s of 1100 Hz; plus: 0.2 s of 3 kHz; five: 0.3 s of 900 Hz; short pauses."""
    spliced = digits.splice(SENTENCE, carrier, "anna", random.Random(3))
    assert spliced.sample_rate == 16000
    assert 1.15 < spliced.seconds < 1.5
    assert strongest(spliced.samples[1600:4800]) == pytest.approx(3000, abs=20)
    assert strongest(spliced.samples[8500:10500]) == pytest.approx(1100, abs=20)
    assert strongest(spliced.samples[-4000:-1000]) == pytest.approx(900, abs=20)


def test_a_spliced_sentence_has_one_level_one_band_and_no_clicks(digits: HumanDigits) -> None:
    samples = digits.splice(SENTENCE, carrier, "anna", random.Random(3)).samples
    carried, digit = samples[1600:4800], samples[-4000:-1000]
    assert np.std(digit) == pytest.approx(np.std(carried), rel=0.1)
    spectrum = np.abs(np.fft.rfft(samples))
    above = int(4200 * len(samples) / 16000)
    assert spectrum[above:].max() < 0.02 * spectrum.max()
    # A 3 kHz tone of this level moves by at most 2 pi 3000/16000 times its peak from sample to sample; a click by more.
    assert np.abs(np.diff(samples)).max() < 1.2 * np.abs(carried).max()


def test_a_splice_is_the_same_for_the_same_seed(digits: HumanDigits) -> None:
    first, second = (digits.splice(SENTENCE, carrier, "anna", random.Random(7)) for _ in range(2))
    assert np.array_equal(first.samples, second.samples)


def test_a_sentence_of_digits_alone_needs_no_carrier(digits: HumanDigits) -> None:
    def silent(words: str) -> Waveform:
        raise AssertionError(f"the carrier was asked for {words!r}")

    assert digits.splice("seven five", silent, "anna", random.Random(0)).seconds > 0.5


def test_what_is_missing_is_one_clear_sentence(tmp_path: Path, digits: HumanDigits) -> None:
    with pytest.raises(OtherVoiceError, match="pass the folder of the spoken digits"):
        HumanDigits(tmp_path / "nowhere")
    with pytest.raises(OtherVoiceError, match="no speaker 'eve'"):
        digits.say("seven", "eve", random.Random(0))
    with pytest.raises(OtherVoiceError, match="not 'twelve'"):
        digits.say("twelve", "anna", random.Random(0))
    for path in tmp_path.glob("3_anna_*.wav"):
        path.unlink()
    with pytest.raises(OtherVoiceError, match="lack three"):
        HumanDigits(tmp_path)


def test_the_digits_are_the_words_zero_to_nine() -> None:
    assert DIGITS[0] == "zero"
    assert DIGITS[9] == "nine"
    assert len(DIGITS) == 10
