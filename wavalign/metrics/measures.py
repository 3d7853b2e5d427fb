"""The measures of one spoken reply: pitch, level, rate and pauses.

A measure that cannot be taken (nothing is voiced, nothing is said) is None, never a made-up number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from wavalign.audio import Waveform
from wavalign.metrics.level import HOP_SECONDS, active_frames, frame_levels
from wavalign.metrics.pitch import PitchContour, pitch_contour

MIN_PAUSE_SECONDS = 0.2
NUCLEUS_DIP_DB = 2.0
NUCLEUS_BELOW_LOUDEST_DB = 25.0
_MIN_VOICED_FRAMES = 3


@dataclass(frozen=True)
class Measures:
    """What is measured on one waveform; None where it cannot be measured.

    ``f0_range_semitones`` is from the 5th to the 95th percentile of voiced frames. ``energy_db`` is the RMS level of
    the active frames in dBFS, ``energy_sd_db`` the standard deviation of their levels. ``speech_seconds`` is the time
    from the first to the last active frame without pauses of 200 ms and more; ``pause_ratio`` is the share of those
    pauses. ``articulation_rate`` is syllable nuclei per second of speech; ``words_per_second`` and
    ``letters_per_second`` need the text that was spoken. ``voiced_share`` is of the active frames.
    """

    seconds: float
    speech_seconds: float | None = None
    f0_median_hz: float | None = None
    f0_sd_semitones: float | None = None
    f0_range_semitones: float | None = None
    energy_db: float | None = None
    energy_sd_db: float | None = None
    articulation_rate: float | None = None
    words_per_second: float | None = None
    letters_per_second: float | None = None
    pause_ratio: float | None = None
    voiced_share: float | None = None


def measure(waveform: Waveform, text: str | None = None, contour: PitchContour | None = None) -> Measures:
    """Measures a waveform of any sample rate; ``contour`` saves tracking the pitch twice when it is known."""
    levels = frame_levels(waveform)
    active = active_frames(levels)
    if not active.any():
        return Measures(seconds=waveform.seconds)
    contour = contour or pitch_contour(waveform)
    span, paused = _span_and_pauses(active)
    speech_seconds = span - paused
    f0 = contour.voiced
    enough = len(f0) >= _MIN_VOICED_FRAMES
    semitones = 12.0 * np.log2(f0 / np.median(f0)) if enough else None
    nuclei = _syllable_nuclei(levels, active, ~np.isnan(contour.f0))
    return Measures(
        seconds=waveform.seconds,
        speech_seconds=speech_seconds,
        f0_median_hz=float(np.median(f0)) if enough else None,
        f0_sd_semitones=float(np.std(semitones)) if enough else None,
        f0_range_semitones=float(np.subtract(*np.percentile(semitones, [95, 5]))) if enough else None,
        energy_db=float(10.0 * np.log10(np.mean(10.0 ** (levels[active] / 10.0)))),
        energy_sd_db=float(np.std(levels[active])),
        articulation_rate=nuclei / speech_seconds if nuclei else None,
        words_per_second=_per_second(len((text or "").split()), speech_seconds),
        letters_per_second=_per_second(letter_count(text or ""), speech_seconds),
        pause_ratio=paused / span,
        voiced_share=float(np.mean(~np.isnan(contour.f0[active]))),
    )


def letter_count(text: str) -> int:
    """Letters and digits of a text, without spaces and punctuation."""
    return len(re.sub(r"[\W_]", "", text))


def _per_second(count: int, seconds: float) -> float | None:
    return count / seconds if count else None


def _span_and_pauses(active: np.ndarray) -> tuple[float, float]:
    """Seconds from the first to the last active frame, and seconds of pauses of 200 ms and more inside."""
    said = np.flatnonzero(active)
    gaps = np.diff(said) - 1
    pauses = gaps[gaps * HOP_SECONDS >= MIN_PAUSE_SECONDS - 1e-9]
    return float(said[-1] - said[0] + 1) * HOP_SECONDS, float(pauses.sum()) * HOP_SECONDS


def _syllable_nuclei(levels: np.ndarray, active: np.ndarray, voiced: np.ndarray) -> int:
    """Voiced intensity peaks that stand 2 dB above the dips beside them.

    After de Jong and Wempe 2009, "Praat script to detect syllable nuclei and measure speech rate automatically":
    peaks within 25 dB of the 99th percentile, a dip of 2 dB before the next one, unvoiced peaks discarded.
    """
    smooth = np.convolve(np.pad(levels, 2, mode="edge"), np.ones(5) / 5.0, mode="valid")
    threshold = np.percentile(levels[active], 99) - NUCLEUS_BELOW_LOUDEST_DB
    peaks = [
        i
        for i in range(len(smooth))
        if smooth[i] > threshold
        and (i == 0 or smooth[i] >= smooth[i - 1])
        and (i == len(smooth) - 1 or smooth[i] > smooth[i + 1])
    ]
    kept: list[int] = []
    for peak in peaks:
        if kept:
            dip = smooth[kept[-1] : peak + 1].min()
            if min(smooth[kept[-1]], smooth[peak]) - dip < NUCLEUS_DIP_DB:
                if smooth[peak] > smooth[kept[-1]]:
                    kept[-1] = peak
                continue
        kept.append(peak)
    return sum(bool(voiced[max(0, i - 2) : i + 3].any()) for i in kept)
