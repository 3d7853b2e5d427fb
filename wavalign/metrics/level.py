"""How loud a waveform is over time, and where it is speech rather than silence."""

from __future__ import annotations

import numpy as np

from wavalign.audio import Waveform

FRAME_SECONDS = 0.025
HOP_SECONDS = 0.010
SILENCE_DBFS = -65.0
ACTIVE_BELOW_PEAK_DB = 35.0


def frame_levels(waveform: Waveform) -> np.ndarray:
    """RMS level in dBFS of each 25 ms frame, every 10 ms, shape (n,); digital zero gives -120.

    Frame ``i`` is centred on ``i * HOP_SECONDS``, so that it lines up with the pitch contour.
    """
    width = max(round(FRAME_SECONDS * waveform.sample_rate), 1)
    samples = waveform.samples.astype(np.float64)
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    centres = np.arange(0.0, len(samples) + 1e-9, HOP_SECONDS * waveform.sample_rate)
    first = np.clip(np.round(centres - width / 2).astype(int), 0, len(samples))
    last = np.clip(first + width, 0, len(samples))
    power = (energy[last] - energy[first]) / width
    return 10.0 * np.log10(np.maximum(power, 1e-12))


def active_frames(levels: np.ndarray) -> np.ndarray:
    """True where a frame is louder than silence and within 35 dB of the loudest; shape (n,) bool."""
    if levels.size == 0:
        return np.zeros(0, dtype=bool)
    return levels > max(SILENCE_DBFS, float(levels.max()) - ACTIVE_BELOW_PEAK_DB)
