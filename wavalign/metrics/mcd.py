"""Mel-cepstral distortion: how far two recordings of one sentence are apart in spectral shape, in dB.

Per frame (Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment"):

    MCD = (10 / ln 10) * sqrt(2 * sum_{m=1}^{24} (c_m - c'_m)^2)

where c_m are the coefficients of ln|H| = sum_m c_m cos(m w~) on a mel frequency axis w~. So it is the RMS difference of
the two smoothed log spectra over mel frequency, without the level c_0. H is WORLD's CheapTrick envelope (16 kHz, FFT
1024, every 10 ms) in 80 triangular mel bands, floored 45 dB below the loudest band of the recording: a synthesiser has
digital silence between and above its formants that no loudspeaker reproduces, and that would otherwise decide the
figure. Only frames in which the reference speaks count. WORLD's own analysis and synthesis of the embedded assistant's
voice is about 2 dB from the original; that is the floor of every codec that ends in WORLD.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pyworld

from wavalign.audio import Waveform
from wavalign.metrics.level import HOP_SECONDS, active_frames, frame_levels

ANALYSIS_RATE = 16_000
FFT_SIZE = 1024
BANDS = 80
ORDER = 24
DYNAMIC_RANGE_DB = 45.0
_DECIBEL = 10.0 / np.log(10.0)


def f0_track(waveform: Waveform) -> np.ndarray:
    """WORLD's F0 in Hz every 10 ms, 0 where unvoiced, for its envelope; shape (frames,)."""
    samples = waveform.resampled(ANALYSIS_RATE).samples.astype(np.float64)
    f0, times = pyworld.dio(samples, ANALYSIS_RATE, f0_floor=55.0, f0_ceil=600.0, frame_period=1000.0 * HOP_SECONDS)
    return pyworld.stonemask(samples, f0, times, ANALYSIS_RATE)


def mel_cepstrum(waveform: Waveform, f0: np.ndarray | None = None) -> np.ndarray:
    """Mel-cepstral coefficients c_1..c_24 per 10 ms frame, shape (frames, 24).

    ``f0`` (frames,) in Hz sets the analysis window of each frame; by default it is tracked.
    """
    samples = waveform.resampled(ANALYSIS_RATE).samples.astype(np.float64)
    f0 = f0_track(waveform) if f0 is None else f0
    times = np.arange(len(f0)) * HOP_SECONDS
    bands = pyworld.cheaptrick(samples, f0, times, ANALYSIS_RATE, fft_size=FFT_SIZE) @ _mel_bands()
    bands = np.maximum(bands, bands.max(initial=1e-16) * 10.0 ** (-DYNAMIC_RANGE_DB / 10.0))
    return 0.5 * np.log(bands) @ _cosines()


def mel_cepstral_distortion(reference: Waveform, other: Waveform, align: bool = False) -> float | None:
    """Mean MCD in dB over the frames in which ``reference`` speaks; None when there are none.

    Without ``align`` frame i is compared with frame i (a codec's round trip keeps the time), both analysed at the
    reference's pitch so that a voicing decision is not counted as a difference in spectrum; frames that only one of
    the two has are left out. With ``align`` the silence around both is cut and the frames are paired by dynamic time
    warping, for two renderings of one sentence.
    """
    speaking = active_frames(frame_levels(reference))
    if not speaking.any():
        return None
    f0 = f0_track(reference)
    ours = mel_cepstrum(reference, f0)
    if not align:
        frames = min(len(ours), len(speaking), int(other.seconds / HOP_SECONDS) + 1)
        if not speaking[:frames].any() or not len(other.samples):
            return None
        theirs = mel_cepstrum(other, np.ascontiguousarray(f0[:frames]))
        return float(_distances(ours[:frames], theirs)[speaking[:frames]].mean())
    other_speaking = active_frames(frame_levels(other))
    if not other_speaking.any():
        return None
    ours, theirs = _inside(ours, speaking), _inside(mel_cepstrum(other), other_speaking)
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
def _mel_bands() -> np.ndarray:
    """Triangular bands of equal weight, evenly spaced in mel (HTK: 2595 log10(1 + f / 700)), shape (513, 80)."""
    edges = 700.0 * (10.0 ** (np.linspace(0.0, 2595.0 * np.log10(1.0 + 8000.0 / 700.0), BANDS + 2) / 2595.0) - 1.0)
    bins = np.linspace(0.0, ANALYSIS_RATE / 2, FFT_SIZE // 2 + 1)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bands = np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    return bands / bands.sum(axis=0)


@cache
def _cosines() -> np.ndarray:
    """Takes ln|H| in the bands to c_1..c_24, shape (80, 24)."""
    warped = (np.arange(BANDS) + 0.5) * np.pi / BANDS
    return np.cos(np.outer(warped, np.arange(1, ORDER + 1))) * (2.0 / BANDS)
