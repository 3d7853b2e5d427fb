"""Two replies made alike in everything but what is said and how: level, rate, codec, silence, length, name.

Whatever else differs between two files (a hash, a size, a pause before the first word) would tell who is who to
anybody who looks, so each battle gets files of its own: freshly dithered, the same random silence before both, both of
the same length.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyloudnorm
import soundfile
import soxr
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from app.battles import SIDES, Side
from wavalign.audio import Waveform

TARGET_LUFS = -18.0
CEILING = 10 ** (-1.0 / 20)
"""True peak, -1 dBTP."""
QUIETER_DB = 8.0
"""Both are turned down by at most this much before both are limited."""
LEAD_SECONDS = (0.10, 0.25)
TAIL_SECONDS = (0.10, 0.40)
_SILENCE_DB = -45.0
_FRAME_SECONDS = 0.01
_LIMITER_SECONDS = 0.005
_HIGHEST_RATE = 48_000


class SilentReplyError(ValueError):
    """A side has nothing to hear. ``side`` says which."""

    def __init__(self, side: Side) -> None:
        super().__init__("The reply has no audible speech.")
        self.side = side


@dataclass(frozen=True)
class Treatment:
    """What was done to one side: LUFS, dB and seconds. ``limited`` is one decision for both sides."""

    loudness_before: float
    loudness_after: float
    gain_db: float
    silence_cut: float
    limited: bool
    sample_rate_before: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Equalised:
    """A side as it is heard: 16-bit wav bytes; ``seconds`` to the end of the speech, ``file_seconds`` of the file."""

    wav: bytes
    seconds: float
    file_seconds: float
    treatment: Treatment


def equalise(replies: Mapping[Side, Waveform], rng: np.random.Generator) -> dict[Side, Equalised]:
    """Both sides of one turn at once. ``rng`` draws the silences and the dither, anew for every battle.

    Loudness is integrated (ITU-R BS.1770-4). Where the target would drive a side beyond the ceiling, both are turned
    down together, by up to ``QUIETER_DB``; what is still too loud is limited, both sides by the same limiter.

    Raises:
        SilentReplyError: when a side has nothing to hear.
    """
    # Bandwidth is a mark too: the lower rate of the two for both.
    rate = min(min(each.sample_rate for each in replies.values()), _HIGHEST_RATE)
    speech: dict[Side, np.ndarray] = {}
    cut: dict[Side, float] = {}
    for side in SIDES:
        samples = replies[side].resampled(rate).samples
        first, last = _audible(side, samples, rate)
        speech[side], cut[side] = samples[first:last].astype(np.float64), first / rate
    before = {side: loudness(speech[side], rate) for side in SIDES}
    if not all(math.isfinite(each) for each in before.values()):
        raise SilentReplyError(next(side for side in SIDES if not math.isfinite(before[side])))
    levelled, limited = _levelled(speech, before, rate)
    lead, tail = rng.uniform(*LEAD_SECONDS), rng.uniform(*TAIL_SECONDS)
    before_speech = round(lead * rate)
    total = before_speech + max(len(each) for each in levelled.values()) + round(tail * rate)
    result: dict[Side, Equalised] = {}
    for side in SIDES:
        file = np.zeros(total)
        file[before_speech : before_speech + len(levelled[side])] = levelled[side]
        after = loudness(levelled[side], rate)
        treatment = Treatment(before[side], after, after - before[side], cut[side], limited, replies[side].sample_rate)
        seconds = (before_speech + len(levelled[side])) / rate
        result[side] = Equalised(_wav(file, rate, rng), seconds, total / rate, treatment)
    return result


def loudness(samples: np.ndarray, rate: int) -> float:
    """Integrated loudness in LUFS of mono samples (n,); what is shorter than a second is measured repeated."""
    if len(samples) < rate:
        samples = np.tile(samples, math.ceil(rate / max(1, len(samples))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silence: the logarithm of zero
        return float(pyloudnorm.Meter(rate).integrated_loudness(samples))


def true_peak(samples: np.ndarray) -> float:
    """The highest absolute value between samples too, by four-fold oversampling (ITU-R BS.1770-4, annex 2)."""
    return float(np.abs(soxr.resample(samples, 1.0, 4.0)).max(initial=0.0)) if len(samples) else 0.0


def _levelled(
    speech: Mapping[Side, np.ndarray], before: Mapping[Side, float], rate: int
) -> tuple[dict[Side, np.ndarray], bool]:
    """Both at one loudness and below the ceiling, and whether both were limited."""
    gains = {side: 10 ** ((TARGET_LUFS - before[side]) / 20) for side in SIDES}
    peak = max(true_peak(speech[side]) * gains[side] for side in SIDES)
    down = min(CEILING / peak, 1.0) if peak > 0 else 1.0
    if down >= 10 ** (-QUIETER_DB / 20):
        return {side: speech[side] * gains[side] * down for side in SIDES}, False
    common = 10 ** (-QUIETER_DB / 20)
    limited = {side: _limited(speech[side] * gains[side] * common, rate) for side in SIDES}
    # Limiting takes loudness from the side that needed it: the louder one comes down to the other.
    after = {side: loudness(limited[side], rate) for side in SIDES}
    quietest = min(after.values())
    return {side: limited[side] * 10 ** ((quietest - after[side]) / 20) for side in SIDES}, True


def _limited(samples: np.ndarray, rate: int) -> np.ndarray:
    """A look-ahead limiter: the gain that the loudest sample around needs, smoothed over the same window."""
    width = 2 * max(1, round(_LIMITER_SECONDS * rate)) + 1
    ceiling = CEILING * 10 ** (-0.5 / 20)  # room for peaks between samples
    needed = np.minimum(1.0, ceiling / np.maximum(maximum_filter1d(np.abs(samples), 2 * width - 1), 1e-9))
    return samples * uniform_filter1d(needed, width, mode="nearest")


def _audible(side: Side, samples: np.ndarray, rate: int) -> tuple[int, int]:
    """First and last sample of the speech: frames within 45 dB of the loudest frame."""
    frame = max(1, round(_FRAME_SECONDS * rate))
    count = len(samples) // frame
    if count == 0 or not np.isfinite(samples).all():
        raise SilentReplyError(side)
    level = np.sqrt(np.mean(samples[: count * frame].reshape(count, frame).astype(np.float64) ** 2, axis=1))
    if level.max() < 1e-4:
        raise SilentReplyError(side)
    heard = np.flatnonzero(level > level.max() * 10 ** (_SILENCE_DB / 20))
    # Half a frame's grace on either side keeps soft onsets and endings.
    return max(0, (int(heard[0]) - 2) * frame), min(len(samples), (int(heard[-1]) + 3) * frame)


def _wav(samples: np.ndarray, rate: int, rng: np.random.Generator) -> bytes:
    """16-bit PCM with triangular dither of one step: the same sound never gives the same bytes twice."""
    dither = rng.random(len(samples)) - rng.random(len(samples))
    steps = np.clip(np.round(samples * 32767 + dither), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, steps, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()
