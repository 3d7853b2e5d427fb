r"""Mel-cepstral distortion: how far two recordings of one sentence are apart in spectral shape, in dB.

Per frame (Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment"):

    MCD = (10 / ln 10) * sqrt(2 * sum_{m=1}^{24} (c_m - c'_m)^2)

where c_m are the mel-cepstral coefficients of Tokuda et al. 1994: ln|H| = sum_m c_m cos(m w~) on the frequency axis w~
of a first-order all-pass with alpha 0.42, the mel scale at 16 kHz. So it is the RMS difference of the two log spectra
over mel frequency, without the level c_0. H is WORLD's CheapTrick envelope (16 kHz, FFT 1024, every 10 ms).
Only frames in which the reference speaks count.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyworld

from wavalign.audio import Waveform
from wavalign.metrics.level import HOP_SECONDS, active_frames, frame_levels

ANALYSIS_RATE = 16_000
FFT_SIZE = 1024
ORDER = 24
ALPHA = 0.42
_ENVELOPE_FLOOR_DB = 80.0
_DECIBEL = 10.0 / np.log(10.0)


def mel_cepstrum(waveform: Waveform) -> np.ndarray:
    """Mel-cepstral coefficients c_1..c_24 per 10 ms frame, shape (frames, 24).

    The envelope is floored 80 dB below its maximum, so that digital silence does not count as spectral shape.
    """
    samples = waveform.resampled(ANALYSIS_RATE).samples.astype(np.float64)
    f0, times = pyworld.dio(samples, ANALYSIS_RATE, f0_floor=55.0, f0_ceil=600.0, frame_period=1000.0 * HOP_SECONDS)
    f0 = pyworld.stonemask(samples, f0, times, ANALYSIS_RATE)
    power = pyworld.cheaptrick(samples, f0, times, ANALYSIS_RATE, fft_size=FFT_SIZE)
    power = np.maximum(power, power.max(initial=1e-16) * 10.0 ** (-_ENVELOPE_FLOOR_DB / 10.0))
    return 0.5 * np.log(power) @ _warped_cosines()


def mel_cepstral_distortion(reference: Waveform, other: Waveform, align: bool = False) -> float | None:
    """Mean MCD in dB over the frames in which ``reference`` speaks; None when it is silent.

    Without ``align`` frame i is compared with frame i (a codec's round trip keeps the time); frames that only one of
    the two has are left out. With ``align`` the silence around both is cut and the frames are paired by dynamic time
    warping, for two renderings of one sentence.
    """
    speaking = active_frames(frame_levels(reference))
    if not speaking.any():
        return None
    ours, theirs = mel_cepstrum(reference), mel_cepstrum(other)
    if not align:
        frames = min(len(ours), len(theirs), len(speaking))
        distances = _distances(ours[:frames], theirs[:frames])[speaking[:frames]]
        return float(distances.mean()) if distances.size else None
    other_speaking = active_frames(frame_levels(other))
    if not other_speaking.any():
        return None
    ours, theirs = _inside(ours, speaking), _inside(theirs, other_speaking)
    rows, columns = warping_path(_distances(ours[:, None], theirs[None]))
    counted = _inside(speaking, speaking)[: len(ours)][rows]
    return float(_distances(ours[rows], theirs[columns])[counted].mean())


def warping_path(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest monotone path through ``cost`` (n, m) from corner to corner, as row and column indices.

    Steps are (1, 0), (0, 1) and (1, 1), unweighted (Sakoe and Chiba 1978, symmetric form without slope limit).
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(1, rows + 1):
        above = np.minimum(total[i - 1, 1:], total[i - 1, :-1])
        left = np.inf
        for j in range(columns):
            left = cost[i - 1, j] + min(above[j], left)
            total[i, j + 1] = left
    i, j = rows, columns
    path = [(i - 1, j - 1)]
    while (i, j) != (1, 1):
        options = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min((o for o in options if o[0] >= 1 and o[1] >= 1), key=lambda o: total[o])
        path.append((i - 1, j - 1))
    path.reverse()
    return np.array([p[0] for p in path]), np.array([p[1] for p in path])


def _distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """dB between coefficient rows (..., 24); shapes broadcast."""
    return _DECIBEL * np.sqrt(2.0 * np.sum((ours - theirs) ** 2, axis=-1))


def _inside(frames: np.ndarray, active: np.ndarray) -> np.ndarray:
    said = np.flatnonzero(active)
    return frames[said[0] : said[-1] + 1]


@cache
def _warped_cosines() -> np.ndarray:
    """Takes ln|H| on FFT bins to c_1..c_24, shape (513, 24): interpolation to the warped axis, then a cosine sum."""
    points = 512
    warped = (np.arange(points) + 0.5) * np.pi / points
    # The inverse of the all-pass phase is the all-pass of -alpha.
    linear = warped + 2.0 * np.arctan2(-ALPHA * np.sin(warped), 1.0 + ALPHA * np.cos(warped))
    bins = linear / np.pi * (FFT_SIZE // 2)
    lower = np.minimum(bins.astype(int), FFT_SIZE // 2 - 1)
    interpolate = np.zeros((FFT_SIZE // 2 + 1, points))
    interpolate[lower, np.arange(points)] = 1.0 - (bins - lower)
    interpolate[lower + 1, np.arange(points)] += bins - lower
    cosines = np.cos(np.outer(warped, np.arange(1, ORDER + 1))) * (2.0 / points)
    return interpolate @ cosines
