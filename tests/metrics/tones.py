"""Voice-like tones whose measures are known by construction."""

from __future__ import annotations

import numpy as np

from wavalign.audio import Waveform

RATE = 16_000


def voice(f0: float | np.ndarray, seconds: float = 1.0, level: float = 0.1, rate: int = RATE) -> Waveform:
    """Ten harmonics falling by 1/k, RMS ``level``; ``f0`` in Hz, constant or of shape (seconds * rate,)."""
    count = round(seconds * rate)
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(f0, (count,))) / rate
    samples = sum(np.sin(k * phase) / k for k in range(1, 11))
    return Waveform(level * samples / np.sqrt(np.mean(samples**2)), rate)


def vibrato(f0: float, depth_semitones: float, hz: float, seconds: float = 2.0) -> np.ndarray:
    """A sinusoidal vibrato; its standard deviation is depth / sqrt(2) semitones."""
    t = np.arange(round(seconds * RATE)) / RATE
    return f0 * 2 ** (depth_semitones * np.sin(2 * np.pi * hz * t) / 12)


def silence(seconds: float) -> Waveform:
    return Waveform(np.zeros(round(seconds * RATE), dtype=np.float32), RATE)


def joined(*parts: Waveform) -> Waveform:
    return Waveform(np.concatenate([p.samples for p in parts]), parts[0].sample_rate)
