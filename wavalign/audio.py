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
MOST_CHANNELS, MOST_HERTZ = 32, 768_000
_UNKNOWN_FRAMES = 2**40
"""What libsndfile says of a stream whose header does not tell its length is beyond this."""
_PIECE_FRAMES = 2**16


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
        AudioError: when it is not audio that libsndfile reads, or longer than ``max_seconds``: by its header, before
            anything is decoded, and where the header says less than there is, as soon as that much is decoded.
    """
    handle = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with soundfile.SoundFile(handle) as file:
            sample_rate = file.samplerate
            if file.channels > MOST_CHANNELS or sample_rate > MOST_HERTZ:
                raise AudioError(
                    f"That file claims {file.channels} channels of {sample_rate} samples a second, which no recording "
                    "of speech has. Use another, or record here."
                )
            if file.frames > _UNKNOWN_FRAMES:
                raise AudioError("That file does not say how long it is. Save it anew, or record here.")
            seconds = file.frames / sample_rate if sample_rate else 0.0
            if max_seconds is not None and seconds > max_seconds:
                raise AudioError(
                    f"That recording is {seconds:.0f} s long; the limit is {max_seconds:.0f} s. Use a shorter one."
                )
            samples = _decoded(file, max_seconds)
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        raise AudioError(
            f"That file is not audio we can read (expected {READABLE_FORMATS}). Try another, or record here."
        ) from error
    return from_array(samples, sample_rate)


def _decoded(file: soundfile.SoundFile, max_seconds: float | None) -> np.ndarray:
    """Mono samples (n,), piece by piece: a header that lies about length or channels does not decide about memory.

    Raises:
        AudioError: when there is more than ``max_seconds``.
    """
    most = None if max_seconds is None else int(max_seconds * file.samplerate)
    pieces, length = [np.zeros(0, dtype=np.float32)], 0
    while len(piece := file.read(_PIECE_FRAMES, dtype="float32", always_2d=True)):
        pieces.append(piece.mean(axis=1) if piece.shape[1] > 1 else piece[:, 0])
        length += len(piece)
        if most is not None and length > most:
            raise AudioError(f"That recording is longer than its limit of {max_seconds:.0f} s. Use a shorter one.")
    return np.concatenate(pieces)


def write(path: str | Path, waveform: Waveform) -> None:
    """Writes 16-bit PCM; the format follows the file name's ending."""
    soundfile.write(str(path), np.clip(waveform.samples, -1, 1), waveform.sample_rate)
