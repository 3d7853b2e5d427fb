"""The codec: how many tokens it needs, and what survives the round trip through them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_data import Recording
from evaluation.figures import Figure, Section, Target, figure
from evaluation.intervals import Estimate, bootstrap_mean, bootstrap_ratio, bootstrap_ratio_difference
from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery
from wavalign.codecs import world
from wavalign.metrics.mcd import mel_cepstral_distortion
from wavalign.metrics.measures import Measures, measure
from wavalign.metrics.wer import WordErrors

COUNT = 150


def sections(bench: Bench) -> list[Section]:
    """Round trips of shipped renderings of word strings in which every word is equally frequent."""
    recordings = bench.recordings("assistant_balanced", COUNT)
    originals = [recording.waveform.resampled(bench.codec.sample_rate) for recording in recordings]
    texts = [recording.text for recording in recordings]
    codes = [bench.codec.encode_reply(waveform) for waveform in bench.progress(originals, "codec")]
    decoded = [_as_long_as(bench.codec.decode(c), o) for c, o in zip(codes, originals, strict=True)]
    vocoded = [vocoder_only(waveform) for waveform in originals]
    intelligible = _intelligibility(bench, originals, decoded, vocoded, texts)
    per_second = [len(c) / o.seconds for c, o in zip(codes, originals, strict=True)]
    shape = (
        Figure(
            "codec/tokens_per_second",
            "tokens a second, one flat stream",
            float(bench.codec.tokens_per_second),
            target=Target(high=50.0),
            note=f"{np.mean(per_second):.2f} counted on the recordings, padding included",
        ),
        *intelligible,
        figure(
            "codec/mcd",
            "mel-cepstral distortion of the round trip",
            _distortion(originals, decoded, bench.seed),
            "dB",
            Target(high=2.6),
        ),
        figure(
            "codec/mcd_vocoder",
            "the same of WORLD alone, without tokens",
            _distortion(originals, vocoded, bench.seed),
            "dB",
            note="the floor of any codec that ends in WORLD",
        ),
    )
    return [
        Section("Codec, on balanced words (every word equally frequent)", shape),
        Section("Codec, what becomes of each delivery", _deliveries(bench, recordings, originals, decoded)),
    ]


def vocoder_only(waveform: Waveform) -> Waveform:
    """WORLD's analysis and synthesis, without tokens in between; as long as ``waveform``."""
    waveform = waveform.resampled(world.SAMPLE_RATE)
    return _as_long_as(
        Waveform(world.synthesise(world.refined(world.analyse(waveform.samples))), world.SAMPLE_RATE), waveform
    )


def _as_long_as(waveform: Waveform, other: Waveform) -> Waveform:
    """Cut to the other's length: the last token is partly padding."""
    return Waveform(waveform.samples[: len(other.samples)], waveform.sample_rate)


def _intelligibility(
    bench: Bench,
    originals: Sequence[Waveform],
    decoded: Sequence[Waveform],
    vocoded: Sequence[Waveform],
    texts: Sequence[str],
) -> tuple[Figure, ...]:
    before, after = bench.heard(originals, texts), bench.heard(decoded, texts)
    between = bench.heard(vocoded, texts)
    words = [e.words for e in before]
    added = bootstrap_ratio_difference([e.errors for e in after], [e.errors for e in before], words, bench.seed)
    return (
        figure("codec/wer_synthesiser", "WER of the synthesiser itself", word_error_estimate(before, bench.seed), "%"),
        figure("codec/wer_vocoder", "WER of WORLD alone", word_error_estimate(between, bench.seed), "%"),
        figure("codec/wer_round_trip", "WER of the round trip", word_error_estimate(after, bench.seed), "%"),
        figure(
            "codec/wer_added",
            "WER that the round trip adds (paired)",
            added,
            "points",
            Target(high=0.04),
        ),
    )


def word_error_estimate(
    errors: Sequence[WordErrors], seed: int, clusters: Sequence[Hashable] | None = None
) -> Estimate | None:
    """The corpus WER with the recordings (or ``clusters`` of them) resampled."""
    return bootstrap_ratio([e.errors for e in errors], [e.words for e in errors], clusters, seed)


def _distortion(originals: Sequence[Waveform], others: Sequence[Waveform], seed: int) -> Estimate | None:
    values = [mel_cepstral_distortion(a, b) for a, b in zip(originals, others, strict=True)]
    return bootstrap_mean([value for value in values if value is not None], seed=seed)


def _deliveries(
    bench: Bench, recordings: Sequence[Recording], originals: Sequence[Waveform], decoded: Sequence[Waveform]
) -> tuple[Figure, ...]:
    pairs = [
        (r.delivery, measure(o, r.text), measure(d, r.text))
        for r, o, d in zip(recordings, originals, decoded, strict=True)
    ]
    rows: list[Figure] = []
    for delivery in Delivery:
        own = [(before, after) for d, before, after in pairs if d is delivery]
        for id_, label, of in (
            ("f0", "F0 median", lambda m: m.f0_median_hz),
            ("rate", "letters a second", lambda m: m.letters_per_second),
        ):
            rows.append(
                figure(
                    f"codec/{id_}_{delivery.value}",
                    f"{label}, {delivery.value}: change by the round trip",
                    _relative_change(own, of, bench.seed),
                    "%",
                    Target(low=-0.05, high=0.05),
                )
            )
    right = [(d, bench.references.adherence_of(after, d).right) for d, _, after in pairs if d is not None]
    rows.append(
        figure(
            "codec/delivery_kept",
            "delivery still right after the round trip",
            bootstrap_mean([float(kept) for _, kept in right], seed=bench.seed),
            "%",
        )
    )
    return tuple(rows)


def _relative_change(
    pairs: Sequence[tuple[Measures, Measures]], of: Callable[[Measures], float | None], seed: int
) -> Estimate | None:
    both = [(of(before), of(after)) for before, after in pairs]
    changes = [after / before - 1.0 for before, after in both if before is not None and after is not None]
    return bootstrap_mean(changes, seed=seed)
