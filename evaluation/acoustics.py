"""What is measured on the sound of every reply, whatever the task: with units, ranges and what not to conclude.

A measure that cannot be taken (nothing voiced, nothing said) is None, never a made-up number; one that was tried and
failed is None with a reason and is counted. Replies are averaged with ``weights``: a word error rate counts each word
once, so that its mean is errors over words of all replies.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyloudnorm

from evaluation.acoustics_hearing import Hearing
from evaluation.acoustics_quality import QUALITY, QualityModels
from evaluation.tasks.protocol import MetricInfo
from wavalign.audio import Waveform
from wavalign.metrics.measures import Measures, measure
from wavalign.metrics.wer import word_errors

REFERENCE_HZ = 100.0
"""0 semitones of a median F0."""
_BLOCK_SECONDS = 0.4
"""ITU-R BS.1770-4 measures loudness in blocks of this length."""

PROSODY: tuple[MetricInfo, ...] = (
    MetricInfo(
        "f0_median",
        "semitones re 100 Hz",
        -12.0,
        31.0,
        None,
        "median pitch of the voiced frames, 12 log2(F0 / 100 Hz), searched from 50 to 600 Hz; a voice's own pitch is "
        "neither good nor bad, a shift against the base may be a changed voice or another mix of deliveries",
    ),
    MetricInfo(
        "f0_sd",
        "semitones",
        0.0,
        None,
        None,
        "standard deviation of pitch within a reply: how lively it is. Monotone is low, but so is calm speech; octave "
        "errors of the tracker raise it",
    ),
    MetricInfo(
        "energy_sd",
        "dB",
        0.0,
        None,
        None,
        "standard deviation of the level of frames with speech; background noise lowers it",
    ),
    MetricInfo(
        "articulation_rate",
        "syllables/s",
        0.0,
        None,
        None,
        "syllable nuclei per second of speech without pauses (de Jong and Wempe 2009); counted in the sound alone, so "
        "nuclei are missed and invented: compare replies by it, do not read it as a count of syllables",
    ),
    MetricInfo(
        "pause_ratio",
        "%",
        0.0,
        1.0,
        None,
        "share of silences of 200 ms and more between the first and the last sound; short replies mostly have none",
    ),
    MetricInfo(
        "loudness",
        "LUFS",
        -70.0,
        0.0,
        None,
        "integrated loudness (ITU-R BS.1770-4), not measured below 0.4 s; louder is not better",
    ),
    MetricInfo("seconds", "s", 0.0, None, None, "length of the reply with its silences; the sampling limits bound it"),
)
WER = MetricInfo(
    "wer",
    "%",
    0.0,
    None,
    "lower",
    "errors of the recognised speech against the reply's own text channel, over the words of all replies; it includes "
    "the recogniser's own errors, says nothing about whether the text is right, and above 100 % is possible",
)
FINISHED = MetricInfo(
    "finished",
    "%",
    0.0,
    1.0,
    "higher",
    "replies that ended by themselves; the others were cut at a limit of sampling",
)
ACOUSTICS: tuple[MetricInfo, ...] = (WER, *PROSODY, *QUALITY, FINISHED)


@dataclass(frozen=True)
class Measured:
    """The measures of one reply: every metric of ``ACOUSTICS`` that was taken, None where it does not apply.

    ``failed`` has the reasons of those that were tried and failed; ``weights`` what each counts in a mean (default 1).
    """

    values: Mapping[str, float | None]
    weights: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    transcript: str | None = None


class Acoustics:
    """``hearing`` recognises speech for the word error rate; ``quality`` are the models that predict opinions."""

    def __init__(self, hearing: Hearing, quality: QualityModels) -> None:
        self.hearing = hearing
        self.quality = quality

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """Those that can be taken here."""
        absent = self.unavailable
        return tuple(metric for metric in ACOUSTICS if metric.name not in absent)

    @property
    def unavailable(self) -> dict[str, str]:
        """Metric -> one sentence: why it cannot be taken here, and what to do."""
        absent = dict(self.quality.unavailable)
        if self.hearing.unavailable:
            absent["wer"] = self.hearing.unavailable
        return absent

    def measure(self, replies: Sequence[tuple[str, Waveform, bool]]) -> list[Measured]:
        """One for each (text channel, waveform, whether it ended by itself), in order."""
        heard = self.hearing.hear([(text, waveform) for text, waveform, _ in replies])
        results = []
        for (text, waveform, finished), transcript in zip(replies, heard, strict=True):
            values: dict[str, float | None] = {**prosody(waveform, text), "finished": float(finished)}
            weights: dict[str, float] = {}
            failed: dict[str, str] = {}
            if not self.hearing.unavailable:
                values["wer"] = None
                if transcript.failed:
                    failed["wer"] = transcript.failed
                elif text.strip():
                    errors = word_errors(*self.hearing.comparable(text, transcript.text))
                    values["wer"], weights["wer"] = errors.rate(), float(errors.words)
            scored, broken = self.quality.score(waveform)
            values |= scored
            odd = [name for name, value in values.items() if value is not None and not math.isfinite(value)]
            broken |= dict.fromkeys(odd, "the measure is not a finite number")
            values |= dict.fromkeys(odd)
            results.append(Measured(values, weights, failed | broken, transcript.text))
        return results


def prosody(waveform: Waveform, text: str | None = None) -> dict[str, float | None]:
    """The metrics of ``PROSODY`` of one waveform."""
    taken: Measures = measure(waveform, text)
    return {
        "f0_median": semitones(taken.f0_median_hz),
        "f0_sd": taken.f0_sd_semitones,
        "energy_sd": taken.energy_sd_db,
        "articulation_rate": taken.articulation_rate,
        "pause_ratio": taken.pause_ratio,
        "loudness": loudness(waveform),
        "seconds": waveform.seconds,
    }


def semitones(hertz: float | None) -> float | None:
    """Above 100 Hz: an octave is 12."""
    return None if hertz is None else float(12.0 * np.log2(hertz / REFERENCE_HZ))


def loudness(waveform: Waveform) -> float | None:
    """Integrated loudness in LUFS; None for silence and for less than one block of 0.4 s."""
    if waveform.seconds < _BLOCK_SECONDS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silence: the logarithm of zero
        value = float(pyloudnorm.Meter(waveform.sample_rate).integrated_loudness(waveform.samples.astype(np.float64)))
    return value if np.isfinite(value) else None
