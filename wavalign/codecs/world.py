"""WORLD analysis and synthesis (Morise et al. 2016) at 16 kHz, 10 ms, as one feature matrix.

Columns: 30 coded spectral envelope, 1 coded aperiodicity, ln F0 (interpolated through unvoiced frames), voiced (0/1).
"""

from __future__ import annotations

import numpy as np
import pyworld

SAMPLE_RATE = 16_000
FRAME_MS = 10.0
FFT_SIZE = 1024
ENVELOPE = 30
FEATURES = ENVELOPE + 3
LN_F0 = ENVELOPE + 1
VOICED = ENVELOPE + 2
F0_FLOOR, F0_CEIL = 55.0, 500.0
FLOOR_DB = 50.0


def f0_contour(samples: np.ndarray) -> np.ndarray:
    """F0 in Hz, one value each 10 ms, 0 where unvoiced (DIO refined by StoneMask)."""
    x = samples.astype(np.float64)
    f0, times = pyworld.dio(x, SAMPLE_RATE, f0_floor=F0_FLOOR, f0_ceil=F0_CEIL, frame_period=FRAME_MS)
    return pyworld.stonemask(x, f0, times, SAMPLE_RATE)


def log_f0_and_voicing(f0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln F0 interpolated over unvoiced frames, and the 0/1 voicing. All unvoiced gives ln 100."""
    voiced = f0 > 0
    if not voiced.any():
        return np.full(len(f0), np.log(100.0), np.float32), voiced.astype(np.float32)
    index = np.arange(len(f0))
    return np.interp(index, index[voiced], np.log(f0[voiced])).astype(np.float32), voiced.astype(np.float32)


def analyse(samples: np.ndarray) -> np.ndarray:
    """16 kHz samples (n,) to features (n // 160 + 1, 33) float32."""
    x = samples.astype(np.float64)
    f0 = f0_contour(samples)
    times = np.arange(len(f0)) * FRAME_MS / 1000
    envelope = pyworld.cheaptrick(x, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    aperiodicity = pyworld.d4c(x, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    log_f0, voiced = log_f0_and_voicing(f0)
    return np.concatenate(
        [
            pyworld.code_spectral_envelope(envelope, SAMPLE_RATE, ENVELOPE),
            pyworld.code_aperiodicity(aperiodicity, SAMPLE_RATE),
            log_f0[:, None],
            voiced[:, None],
        ],
        axis=1,
    ).astype(np.float32)


def refined(features: np.ndarray, rounds: int = 2, step: float = 0.5) -> np.ndarray:
    """Features (T, 33) whose *synthesis* has the envelope that ``analyse`` found: analysis by synthesis.

    Synthesising and analysing again smooths the envelope a second time, so each round moves it by ``step`` of what is
    still missing; the nearest round is kept. What lies ``FLOOR_DB`` below the loudest bin is raised to there first: the
    digital silence of a synthesiser is inaudible, and its depth would otherwise be most of the envelope's variance.
    """
    f0 = _f0_of(features)
    times = np.arange(len(features)) * FRAME_MS / 1000
    wanted = _floored(pyworld.decode_spectral_envelope(_envelope_of(features), SAMPLE_RATE, FFT_SIZE))
    found = features.astype(np.float64)
    found[:, :ENVELOPE] = wanted
    best, least = found, np.inf
    for number in range(rounds + 1):
        samples = np.pad(synthesise(found), (0, SAMPLE_RATE // 100)).astype(np.float64)
        missing = wanted - _floored(pyworld.cheaptrick(samples, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE))
        distance = float(np.square(missing).mean())
        if distance < least:
            best, least = found.copy(), distance
        if number < rounds:
            found[:, :ENVELOPE] += step * missing
    return best.astype(np.float32)


def _floored(envelope: np.ndarray) -> np.ndarray:
    """A power envelope (T, 513), coded (T, 30), with nothing deeper than ``FLOOR_DB`` below its loudest bin."""
    raised = np.maximum(envelope, envelope.max() * 10 ** (-FLOOR_DB / 10))
    return pyworld.code_spectral_envelope(raised, SAMPLE_RATE, ENVELOPE)


def _f0_of(features: np.ndarray) -> np.ndarray:
    """F0 in Hz (T,) float64, 0 where unvoiced, within WORLD's bounds."""
    log_f0 = np.clip(features[:, LN_F0].astype(np.float64), np.log(F0_FLOOR), np.log(F0_CEIL))
    return np.where(features[:, VOICED] > 0.5, np.exp(log_f0), 0.0)


def _envelope_of(features: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(features[:, :ENVELOPE], dtype=np.float64)


def synthesise(features: np.ndarray) -> np.ndarray:
    """Features (T, 33) to float32 samples (T * 160,). Deterministic: a longer input begins with the same samples."""
    f0 = _f0_of(features)
    envelope = pyworld.decode_spectral_envelope(_envelope_of(features), SAMPLE_RATE, FFT_SIZE)
    coded = np.ascontiguousarray(features[:, ENVELOPE : ENVELOPE + 1], dtype=np.float64)
    aperiodicity = pyworld.decode_aperiodicity(np.minimum(coded, -1e-6), SAMPLE_RATE, FFT_SIZE)
    samples = pyworld.synthesize(f0, envelope, aperiodicity, SAMPLE_RATE, FRAME_MS)
    wanted = len(features) * 160
    return np.pad(samples, (0, max(0, wanted - len(samples))))[:wanted].astype(np.float32)
