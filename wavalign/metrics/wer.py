"""Word error rate between what should have been said and what was heard, by jiwer.

Both sides are normalised alike: Unicode compatibility form, lower case, apostrophes dropped ("don't" is "dont"),
every other character that is neither letter nor digit is a space. Numbers are not spelled out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import jiwer

_APOSTROPHES = re.compile(r"['’ʼ`]")
_NOT_A_WORD = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class WordErrors:
    """``errors`` substitutions, deletions and insertions against ``words`` reference words."""

    errors: int
    words: int

    def rate(self) -> float | None:
        """Errors per reference word (above 1 is possible); None without reference words."""
        return self.errors / self.words if self.words else None


def normalise(text: str) -> str:
    """The words of a text as they are compared, separated by single spaces."""
    text = _APOSTROPHES.sub("", unicodedata.normalize("NFKC", text).lower())
    return _NOT_A_WORD.sub(" ", text).strip()


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Counts of the best alignment of one pair of texts."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return WordErrors(errors=len(hypothesis.split()), words=0)
    counts = jiwer.process_words(reference, hypothesis)
    return WordErrors(counts.substitutions + counts.deletions + counts.insertions, len(reference.split()))


def word_error_rate(reference: str, hypothesis: str) -> float | None:
    """Errors per word of one pair; None when the reference has no words."""
    return word_errors(reference, hypothesis).rate()


def corpus_word_error_rate(pairs: Iterable[tuple[str, str]]) -> float | None:
    """Errors of all (reference, hypothesis) pairs over the words of all references; None without any words."""
    counts = [word_errors(reference, hypothesis) for reference, hypothesis in pairs]
    return WordErrors(sum(c.errors for c in counts), sum(c.words for c in counts)).rate()
