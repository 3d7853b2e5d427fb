"""User speech: can the words of voices that no training clip had still be read from their tokens?"""

from __future__ import annotations

from evaluation.closedtalk_bench import Bench
from evaluation.closedtalk_codec import word_error_estimate
from evaluation.closedtalk_data import Recording
from evaluation.figures import Figure, Section, Target, figure
from evaluation.intervals import Estimate
from wavalign.closedtalk.deliveries import Tone
from wavalign.metrics.wer import WordErrors, word_errors

COUNT = 400
READABLE = Target(high=0.15)


def sections(bench: Bench) -> list[Section]:
    """Held-out dialogues, first spoken turns and later ones alike."""
    return [Section("User speech from unseen voices, read from its tokens", _shipped(bench))]


def read_tokens(bench: Bench, codes: list[int], text: str) -> WordErrors:
    """What the codec's own letter reader (CTC on the codes) makes of them, as words of the lexicon."""
    return word_errors(text, bench.recogniser.read(bench.codec.letter_log_probs(codes)).text)


def recordings_figures(bench: Bench, recordings: list[Recording], id_: str, who: str) -> tuple[Figure, ...]:
    """For recordings: read from their tokens, and heard by the recogniser directly."""
    texts = [r.text for r in recordings]
    read = [
        read_tokens(bench, bench.codec.encode(r.waveform), r.text) for r in bench.progress(recordings, "reading tokens")
    ]
    heard = bench.heard([r.waveform for r in recordings], texts)
    return (
        figure(f"{id_}/wer_tokens", f"WER read from the tokens, {who}", word_error_estimate(read, bench.seed), "%"),
        figure(f"{id_}/wer_recogniser", f"WER of the recogniser, {who}", word_error_estimate(heard, bench.seed), "%"),
    )


def _shipped(bench: Bench) -> tuple[Figure, ...]:
    spoken = [(d.index, turn) for d in bench.dialogues("held_out", COUNT) for turn in d.turns if turn.user_codes]
    read = [
        (i, turn.tone, read_tokens(bench, list(turn.user_codes), turn.text))
        for i, turn in bench.progress(spoken, "read")
    ]

    def of(tones: tuple[Tone, ...]) -> Estimate | None:
        chosen = [(i, errors) for i, tone, errors in read if tone in tones]
        return word_error_estimate([e for _, e in chosen], bench.seed, [i for i, _ in chosen])

    return (
        figure("users/wer_tokens", "WER read from the tokens, all turns", of(tuple(Tone)), "%", READABLE),
        *(
            figure(f"users/wer_tokens_{tone.value}", f"the same, {tone.value.replace('_', ' and ')}", of((tone,)), "%")
            for tone in Tone
        ),
    )
