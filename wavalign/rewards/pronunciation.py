"""Is each word of the text channel spoken where it should be? Goodness of pronunciation, word by word."""

from __future__ import annotations

from collections.abc import Sequence

from wavalign.metrics.alignment import align
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST, Answer, Span, Timed
from wavalign.rewards.registry import RewardContext

FRAMES_PER_SECOND = 50.0


class Pronunciation:
    """The mean of the words' scores, each 1 + 4 times the fit of its letters to what is heard in its place.

    ``intelligibility`` asks what a listener understands; this knows which word is meant, so it also tells a clear
    word from one that is only just understood, and says when in the reply it was. What is heard before the first word
    and after the last belongs to none. A reply without words or without sound, or with more letters than its sound has
    room for, gets 1 throughout. Only the letters a to z are known: a text of digits or of another script has no words.
    """

    name = "pronunciation"
    needs_audio = True
    timed = True
    channel = "speech"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        self.recogniser = context.recogniser

    def score(self, answers: Sequence[Answer]) -> list[Timed]:
        return [self._score(answer) for answer in answers]

    def _score(self, answer: Answer) -> Timed:
        if answer.waveform is None:
            return Timed(LOWEST)
        seconds = answer.waveform.seconds
        words = align(self.recogniser.letter_log_probs(answer.waveform), answer.text)
        if not words:
            return Timed(LOWEST, (Span(0.0, seconds, LOWEST),))
        spans = tuple(
            Span(w.start / FRAMES_PER_SECOND, w.end / FRAMES_PER_SECOND, LOWEST + (HIGHEST - LOWEST) * w.fit, w.word)
            for w in words
        )
        return Timed(sum(span.score for span in spans) / len(spans), spans)
