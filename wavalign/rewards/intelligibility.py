"""Does the speech say what the text says? Errors of what a recogniser hears against the text channel."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from wavalign.audio import Waveform
from wavalign.metrics.wer import normalise, word_error_rate
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST, Answer
from wavalign.rewards.registry import RewardContext


class Intelligibility:
    """1 + 4 (1 - e), e the error rate, at most 1: a mix of words (WER) and of letters as they were heard.

    Replies of five words have only a handful of word error rates, and most are 0; letters tell those apart.
    A reply without words or without sound says nothing intelligible: 1.
    """

    name = "intelligibility"
    needs_audio = True
    channel = "speech"

    def __init__(self, config: RewardConfig, context: RewardContext) -> None:
        self.recogniser = context.recogniser
        self.letter_share = config.letter_share

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [self._score(answer.text, answer.waveform) for answer in answers]

    def _score(self, text: str, waveform: Waveform | None) -> float:
        text = normalise(text)
        if waveform is None or not text:
            return LOWEST
        heard = self.recogniser.transcribe_with_confidence([waveform])[0]
        error = error_rate(text, heard.text, heard.raw, self.letter_share)
        return LOWEST + (HIGHEST - LOWEST) * (1 - min(1.0, error))


def error_rate(text: str, words: str, letters: str, letter_share: float) -> float:
    """The mix of word and letter error rates of what was heard, against normalised ``text``; above 1 is possible."""
    word_rate = word_error_rate(text, words)
    letter_rate = Levenshtein.distance(text, letters) / len(text)
    return (1 - letter_share) * (1.0 if word_rate is None else word_rate) + letter_share * letter_rate
