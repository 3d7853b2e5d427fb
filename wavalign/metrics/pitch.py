"""The pitch contour of a waveform: WORLD's DIO with StoneMask, in two passes.

The second pass searches only 0.75 times the first quartile to 1.75 times the third quartile of the first pass, which
removes most octave errors (De Looze and Hirst 2008, "Detecting changes in key and range for the automatic modelling and
coding of intonation"; their upper factor is 1.5, widened here because excited speech rises further). A frame counts as
voiced only when the waveform really repeats after one period: DIO alone finds a pitch in noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyworld

from wavalign.audio import Waveform
from wavalign.metrics.level import HOP_SECONDS, active_frames, frame_levels

FLOOR_HZ = 50.0
CEILING_HZ = 600.0
MIN_PERIODICITY = 0.5
_ANALYSIS_RATE = 16_000
_MIN_SECONDS = 0.06


@dataclass(frozen=True)
class PitchContour:
    """``times`` in seconds and ``f0`` in Hz, both of shape (n,), one value every 10 ms; NaN where unvoiced."""

    times: np.ndarray
    f0: np.ndarray

    @property
    def voiced(self) -> np.ndarray:
        """Hz of the voiced frames only, shape (m,)."""
        return self.f0[~np.isnan(self.f0)]

    def semitones(self) -> np.ndarray:
        """Semitones from the median of the voiced frames, shape (n,), NaN where unvoiced."""
        if self.voiced.size == 0:
            return np.full_like(self.f0, np.nan)
        return 12.0 * np.log2(self.f0 / np.median(self.voiced))


def pitch_contour(waveform: Waveform, floor: float = FLOOR_HZ, ceiling: float = CEILING_HZ) -> PitchContour:
    """The F0 of speech of any sample rate, searched between ``floor`` and ``ceiling`` Hz.

    A waveform shorter than 60 ms, or silent, has a contour without voiced frames.
    """
    levels = frame_levels(waveform)
    times = np.arange(len(levels)) * HOP_SECONDS
    unvoiced = PitchContour(times, np.full(len(levels), np.nan))
    active = active_frames(levels)
    if waveform.seconds < _MIN_SECONDS or not active.any():
        return unvoiced
    samples = waveform.resampled(_ANALYSIS_RATE).samples.astype(np.float64)
    f0 = _voiced_only(samples, _track(samples, floor, ceiling, len(times)), active)
    voiced = f0[~np.isnan(f0)]
    if voiced.size == 0:
        return unvoiced
    low, high = np.percentile(voiced, [25, 75])
    narrow_floor, narrow_ceiling = max(floor, 0.75 * low), min(ceiling, 1.75 * high)
    return PitchContour(times, _voiced_only(samples, _track(samples, narrow_floor, narrow_ceiling, len(times)), active))


def _track(samples: np.ndarray, floor: float, ceiling: float, frames: int) -> np.ndarray:
    """Hz per frame, shape (frames,), zero where WORLD finds no pitch."""
    f0, times = pyworld.dio(samples, _ANALYSIS_RATE, f0_floor=floor, f0_ceil=ceiling, frame_period=1000.0 * HOP_SECONDS)
    f0 = pyworld.stonemask(samples, f0, times, _ANALYSIS_RATE)
    f0 = np.where((f0 >= 0.9 * floor) & (f0 <= 1.1 * ceiling), f0, 0.0)
    return np.pad(f0, (0, max(0, frames - len(f0))))[:frames]


def _voiced_only(samples: np.ndarray, f0: np.ndarray, active: np.ndarray) -> np.ndarray:
    result = np.full(len(f0), np.nan)
    for frame in np.flatnonzero((f0 > 0) & active):
        if _periodicity(samples, frame * HOP_SECONDS, f0[frame]) >= MIN_PERIODICITY:
            result[frame] = f0[frame]
    return result


def _periodicity(samples: np.ndarray, second: float, f0: float) -> float:
    """Correlation, -1..1, of two periods of the waveform around ``second`` with the same one period later."""
    period = round(_ANALYSIS_RATE / f0)
    first = int(second * _ANALYSIS_RATE) - (3 * period) // 2
    first = min(max(first, 0), len(samples) - 3 * period)
    if first < 0:
        return 0.0
    here, later = samples[first : first + 2 * period], samples[first + period : first + 3 * period]
    scale = np.sqrt((here @ here) * (later @ later))
    return float(here @ later / scale) if scale > 0 else 0.0
