"""Mono audio in memory, and the only place that reads or writes audio files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

READABLE_FORMATS = "wav, flac, mp3, ogg"
MAX_SECONDS_DEFAULT = 30.0


class AudioError(ValueError):
    """Audio that cannot be used; the message is one sentence for the person who supplied it."""


@dataclass(frozen=True)
class Waveform:
    """Mono audio: ``samples`` float32 of shape (n,), nominally in [-1, 1], at ``sample_rate`` Hz."""

    samples: np.ndarray
    sample_rate: int

    def __post_init__(self) -> None:
        samples = np.ascontiguousarray(self.samples, dtype=np.float32)
        if samples.ndim != 1:
            raise AudioError(f"Expected mono samples of shape (n,), got {samples.shape}.")
        if self.sample_rate <= 0:
            raise AudioError(f"The sample rate must be positive, got {self.sample_rate} Hz.")
        object.__setattr__(self, "samples", samples)

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def resampled(self, sample_rate: int) -> Waveform:
        if sample_rate == self.sample_rate:
            return self
        return Waveform(soxr.resample(self.samples, self.sample_rate, sample_rate), sample_rate)

    def peak(self) -> float:
        return float(np.abs(self.samples).max(initial=0.0))

    def to_wav_bytes(self) -> bytes:
        """16-bit PCM wav; samples beyond full scale are clipped."""
        buffer = io.BytesIO()
        soundfile.write(buffer, np.clip(self.samples, -1, 1), self.sample_rate, format="WAV", subtype="PCM_16")
        return buffer.getvalue()


def from_array(samples: np.ndarray, sample_rate: int) -> Waveform:
    """Any integer or float array of shape (n,) or (n, channels) as a mono ``Waveform``.

    Raises:
        AudioError: when the samples are empty, not numbers, or not finite.
    """
    samples = np.asarray(samples)
    if np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / float(np.iinfo(samples.dtype).max)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise AudioError("That recording does not hold audio samples. Record it again.")
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if samples.size == 0:
        raise AudioError("That recording is empty. Record again, or choose another file.")
    if not np.isfinite(samples).all():
        raise AudioError("That recording holds samples that are not numbers (NaN or infinity). Record it again.")
    return Waveform(samples, sample_rate)


def read(source: str | Path | bytes, max_seconds: float | None = None) -> Waveform:
    """Reads an audio file (path or bytes) as mono at its own sample rate.

    Raises:
        AudioError: when it is not audio that libsndfile reads, or longer than ``max_seconds``.
    """
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with soundfile.SoundFile(handle) as file:
            seconds = file.frames / file.samplerate if file.samplerate else 0.0
            if max_seconds is not None and seconds > max_seconds:
                raise AudioError(
                    f"That recording is {seconds:.0f} s long; the limit is {max_seconds:.0f} s. Use a shorter one."
                )
            samples = file.read(dtype="float32", always_2d=True)
            sample_rate = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        raise AudioError(
            f"That file is not audio we can read (expected {READABLE_FORMATS}). Try another, or record here."
        ) from error
    return from_array(samples, sample_rate)


def write(path: str | Path, waveform: Waveform) -> None:
    """Writes 16-bit PCM; the format follows the file name's ending."""
    soundfile.write(str(path), np.clip(waveform.samples, -1, 1), waveform.sample_rate)
