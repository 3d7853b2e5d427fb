"""What a visitor hands in becomes a turn, or one clear sentence. Knows no page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.settings import Limits
from wavalign import audio
from wavalign.audio import AudioError, Waveform
from wavalign.dialogue import Turn

NOTHING_GIVEN = "Nothing to answer yet. Speak, choose a file, type, or pick an example."
_SILENCE_PEAK = 10 ** (-50 / 20)
_SILENCE_RMS = 10 ** (-62 / 20)
_RATES = (4_000, 384_000)
_MODEL_RATE = 16_000


class IntakeError(ValueError):
    """A turn that cannot be answered; the message is one sentence for the person who made it."""


def speech_turn(source: str | Path, limits: Limits) -> Turn:
    """A recording or an uploaded file as a spoken turn, mono at 16 kHz.

    Raises:
        IntakeError: not audio, empty, too short, too long, silent, or not made of numbers.
    """
    try:
        waveform = audio.read(source, max_seconds=limits.turn_seconds)
    except AudioError as error:
        raise IntakeError(str(error)) from error
    if not _RATES[0] <= waveform.sample_rate <= _RATES[1]:
        raise IntakeError(f"That file claims {waveform.sample_rate} samples a second; use one of 8 to 48 kHz.")
    if waveform.seconds < limits.shortest_turn_seconds:
        raise IntakeError(
            f"That recording lasts only {1000 * waveform.seconds:.0f} ms. Record again and stop after the last word."
        )
    waveform = _within_full_scale(waveform)
    if waveform.peak() < _SILENCE_PEAK or float(np.sqrt(np.mean(waveform.samples**2))) < _SILENCE_RMS:
        raise IntakeError("That recording is silent. Check that the right microphone is chosen, then record again.")
    return Turn("user", speech=waveform.resampled(_MODEL_RATE))


def typed_turn(text: str | None, limits: Limits) -> Turn:
    """Typed words as a turn, spaces tidied.

    Raises:
        IntakeError: nothing typed, or too much.
    """
    words = " ".join((text or "").split())
    if not words:
        raise IntakeError(NOTHING_GIVEN)
    if len(words) > limits.typed_characters:
        raise IntakeError(
            f"That is {len(words):,} characters; the limit is {limits.typed_characters:,}. Ask in one short sentence."
        )
    return Turn("user", text=words)


def _within_full_scale(waveform: Waveform) -> Waveform:
    """Float files may exceed full scale by far; what is only scaled wrong is still good speech."""
    peak = waveform.peak()
    return Waveform(waveform.samples / peak, waveform.sample_rate) if peak > 1 else waveform
