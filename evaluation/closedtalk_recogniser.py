"""The recogniser: how well the instrument that measures word error rates hears, apart from any model."""

from __future__ import annotations

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_codec import vocoder_only, word_error_estimate
from evaluation.figures import Section, Target, figure

COUNT = 150


def sections(bench: Bench) -> list[Section]:
    """Unseen sentences, synthesised, vocoded and through the codec; and users with unseen voices."""
    rows = []
    for kind, what in (("assistant_balanced", "balanced words"), ("assistant_domain", "answers")):
        recordings = bench.recordings(kind, COUNT)
        texts = [r.text for r in recordings]
        originals = [r.waveform for r in recordings]
        decoded = [bench.codec.decode(bench.codec.encode_reply(w)) for w in bench.progress(originals, "codec")]
        for id_, how, waveforms, limit in (
            ("synthesised", "synthesised", originals, 0.04),
            ("vocoded", "vocoded (WORLD)", [vocoder_only(w) for w in originals], 0.08),
            ("tokens", "vocoded (through the codec)", decoded, 0.08),
        ):
            errors = bench.heard(waveforms, texts)
            rows.append(
                figure(
                    f"recogniser/wer_{id_}_{kind.removeprefix('assistant_')}",
                    f"WER on {how} {what}",
                    word_error_estimate(errors, bench.seed),
                    "%",
                    Target(high=limit),
                )
            )
    users = bench.recordings("user_heldout", COUNT)
    errors = bench.heard([r.waveform for r in users], [r.text for r in users])
    rows.append(
        figure(
            "recogniser/wer_users",
            "WER on users with unseen voices, as recorded",
            word_error_estimate(errors, bench.seed),
            "%",
        )
    )
    return [Section("Recogniser, on unseen sentences", tuple(rows))]
