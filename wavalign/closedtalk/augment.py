"""What lies between a speaker and the model: formants, room, microphone, noise. Every draw comes from the given rng."""

from __future__ import annotations

import io

import numpy as np
import scipy.signal
import soundfile
import soxr

from wavalign.audio import Waveform


def shift_formants(waveform: Waveform, factor: float) -> Waveform:
    """Resampling: formants, pitch and speed all scale by ``factor`` (1.1 = a shorter vocal tract)."""
    shifted = soxr.resample(waveform.samples, waveform.sample_rate * factor, waveform.sample_rate, quality="HQ")
    return Waveform(shifted, waveform.sample_rate)


def add_room(samples: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A synthetic impulse response: the direct path and exponentially decaying noise, RT60 0.1-0.5 s."""
    rt60 = rng.uniform(0.1, 0.5)
    length = int(sample_rate * rt60)
    tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    tail[: int(0.004 * sample_rate)] = 0
    ratio_db = rng.uniform(3, 18)
    tail *= 10 ** (-ratio_db / 20) / (np.sqrt((tail**2).sum()) + 1e-9)
    tail[0] = 1.0
    return scipy.signal.fftconvolve(samples, tail)[: len(samples) + length // 2].astype(np.float32)


def band_limit(samples: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A microphone's or a telephone's band: high-pass at 60-350 Hz, low-pass at 3-7.5 kHz."""
    low = rng.uniform(60, 350)
    high = rng.choice([rng.uniform(3000, 4000), rng.uniform(4000, 7500)])
    sections = scipy.signal.butter(2, [low, high], "bandpass", fs=sample_rate, output="sos")
    return scipy.signal.sosfilt(sections, samples).astype(np.float32)


def tilt(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A gentle spectral tilt (first-order shelf)."""
    a = rng.uniform(-0.5, 0.6)
    return scipy.signal.lfilter([1.0, -a], [1.0], samples).astype(np.float32)


def clip(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    limit = np.quantile(np.abs(samples), rng.uniform(0.97, 0.999)) + 1e-4
    return np.clip(samples, -limit, limit)


def code_lossy(samples: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A lossy codec: mu-law telephony or ogg/vorbis at low quality."""
    if rng.random() < 0.5:
        mu = 255.0
        peak = np.abs(samples).max() + 1e-6
        x = samples / peak
        coded = np.round(np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu) * 127) / 127
        return (np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(mu)) / mu * peak).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(
        buffer, np.clip(samples, -1, 1), sample_rate, format="OGG", subtype="VORBIS", compression_level=0.95
    )
    buffer.seek(0)
    return soundfile.read(buffer, dtype="float32")[0]


def add_noise(samples: np.ndarray, sample_rate: int, rng: np.random.Generator, snr_db: float) -> np.ndarray:
    """White, pink-ish or humming noise at ``snr_db`` against the speech's power."""
    n = len(samples)
    noise = rng.standard_normal(n)
    kind = rng.random()
    if kind < 0.45:
        noise = scipy.signal.lfilter([1.0], [1.0, -rng.uniform(0.7, 0.97)], noise)
    elif kind < 0.6:
        t = np.arange(n) / sample_rate
        hum = rng.choice([50.0, 60.0, 100.0, 120.0])
        noise = noise * 0.3 + sum(np.sin(2 * np.pi * hum * k * t + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    power = float((samples**2).mean()) + 1e-10
    noise = noise * np.sqrt(power / (float((noise**2).mean()) + 1e-12) * 10 ** (-snr_db / 10))
    return (samples + noise).astype(np.float32)


def with_margins(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """Silence before and after: half of the time little, half of the time up to 0.3 s."""
    margins = rng.uniform(0.02, 0.3, 2) if rng.random() < 0.5 else rng.uniform(0.01, 0.06, 2)
    return Waveform(np.pad(waveform.samples, [int(m * waveform.sample_rate) for m in margins]), waveform.sample_rate)


def through_microphone(clean: Waveform, rng: np.random.Generator) -> Waveform:
    """A user's speech as a microphone delivers it: room, tilt, band, clipping, codec, noise and level.

    The relative level is kept (a loud speaker stays louder) up to a microphone gain of -9 to +6 dB.
    """
    samples, rate = clean.samples, clean.sample_rate
    if rng.random() < 0.4:
        samples = add_room(samples, rate, rng)
    if rng.random() < 0.6:
        samples = tilt(samples, rng)
    if rng.random() < 0.4:
        samples = band_limit(samples, rate, rng)
    if rng.random() < 0.1:
        samples = clip(samples, rng)
    if rng.random() < 0.15:
        samples = code_lossy(samples, rate, rng)
    samples = add_noise(samples, rate, rng, snr_db=rng.uniform(10, 42))
    gain = 10 ** (rng.uniform(-9, 6) / 20)
    return Waveform(np.clip(samples * gain, -1, 1), rate)
