"""Where each word of a known text is spoken, and how well: forced alignment under CTC letter probabilities.

The fit of a word is the goodness of pronunciation (Witt and Young 2000): the posterior of its letters at the frames
where the likeliest path puts them. It tells apart what an error rate calls equally right, and says where.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wavalign.codecs.fsq_world import LETTERS
from wavalign.metrics.lexicon_decoding import BLANK
from wavalign.metrics.wer import normalise

LEAST_LOG_FIT = -4.6
"""A letter that was not heard at all counts as this (1 in 100), so that one wrong letter does not hide the others."""


@dataclass(frozen=True)
class WordFit:
    """``word`` lies between the frames ``start`` and ``end`` (excluded); ``fit`` from 0 (other sounds) to 1."""

    word: str
    start: int
    end: int
    fit: float


def align(log_probs: np.ndarray, text: str) -> list[WordFit] | None:
    """The words of ``text`` in CTC log-probabilities (T, 28) of ``LETTERS``; pauses go half to either neighbour.

    None where the text has no letters, or more of them than the frames can hold. Characters that are no letters are
    left out, as when error rates are counted.
    """
    words = ["".join(c for c in word if c in LETTERS) for word in normalise(text).split()]
    words = [word for word in words if word]
    letters = " ".join(words)
    if not letters:
        return None
    symbols = np.full(2 * len(letters) + 1, BLANK)
    symbols[1::2] = [LETTERS.index(letter) + 1 for letter in letters]
    states = _viterbi(np.asarray(log_probs, np.float64), symbols)
    if states is None:
        return None
    result: list[WordFit] = []
    first = 0
    for word in words:
        own = range(first, first + len(word))
        frames = [np.flatnonzero(states == 2 * place + 1) for place in own]
        heard = [log_probs[at, symbols[2 * place + 1]].max() for place, at in zip(own, frames, strict=True)]
        fit = float(np.exp(np.mean(np.maximum(heard, LEAST_LOG_FIT))))
        result.append(WordFit(word, int(frames[0][0]), int(frames[-1][-1]) + 1, fit))
        first += len(word) + 1
    middles = [(one.end + other.start) // 2 for one, other in pairwise(result)]
    starts, ends = [result[0].start, *middles], [*middles, result[-1].end]
    return [WordFit(w.word, start, end, w.fit) for w, start, end in zip(result, starts, ends, strict=True)]


def _viterbi(log_probs: np.ndarray, symbols: np.ndarray) -> np.ndarray | None:
    """The state of each frame (T,) on the likeliest path through ``symbols`` (with their blanks); None without one."""
    count = len(symbols)
    skips = np.zeros(count, bool)
    skips[2:] = (symbols[2:] != BLANK) & (symbols[2:] != symbols[:-2])
    emitted = log_probs[:, symbols]
    came = np.zeros((len(log_probs), count), np.int8)
    score = np.full(count, -np.inf)
    for time, frame in enumerate(emitted):
        if time == 0:
            score[:2] = frame[:2]
            continue
        options = np.full((3, count), -np.inf)
        options[0], options[1, 1:] = score, score[:-1]
        options[2, 2:] = np.where(skips[2:], score[:-2], -np.inf)
        came[time] = options.argmax(0)
        score = options.max(0) + frame
    if not len(log_probs) or not np.isfinite(score[-2:]).any():
        return None
    state = count - 1 if score[-1] >= score[-2] else count - 2
    states = np.zeros(len(log_probs), np.int64)
    for time in range(len(log_probs) - 1, -1, -1):
        states[time] = state
        state -= int(came[time, state])
    return states
