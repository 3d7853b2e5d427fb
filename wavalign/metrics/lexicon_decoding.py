"""The best sequence of lexicon words under CTC letter probabilities: Viterbi over a loop of all words.

Every word is a chain of its letters with optional blanks between them (a mandatory one between equal letters, as CTC
collapses repeats: Graves et al. 2006), words are joined by the space symbol, and each state carries the history of the
words before it (token passing, Young et al. 1989). Exact: nothing is pruned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wavalign.codecs.fsq_world import LETTERS

BLANK, SPACE = 0, 1


class LexiconDecoder:
    """Decodes letters into words of a closed lexicon.

    The states of word w with letters l1..ln are the rows first[w] .. first[w] + 2n - 1: letter, blank, letter, blank...
    """

    def __init__(self, lexicon: Sequence[str]) -> None:
        if not lexicon:
            raise ValueError("A lexicon decoder needs at least one word.")
        self.words = tuple(lexicon)
        symbols: list[int] = []
        first, last = [], []
        for word in self.words:
            first.append(len(symbols))
            for letter in word:
                symbols += [LETTERS.index(letter) + 1, BLANK]
            last.append(len(symbols) - 1)
        self.symbols = np.array(symbols)
        self.first, self.last = np.array(first), np.array(last)
        starts = np.zeros(len(symbols), bool)
        starts[self.first] = True
        # A letter may follow the letter before it without a blank when they differ.
        skips = np.zeros(len(symbols), bool)
        skips[2:] = (self.symbols[2:] != BLANK) & (self.symbols[2:] != self.symbols[:-2])
        self._enters = starts
        self._skips = skips & ~starts

    def decode(self, log_probs: np.ndarray) -> list[str]:
        """Log-probabilities (T, 28), natural log, to the most probable words (perhaps none)."""
        n = len(self.symbols)
        history: list[tuple[int, int]] = [(-1, -1)]
        score, token = np.full(n, -np.inf), np.zeros(n, np.int64)
        # Between words: the space itself, and a blank that follows it; the blank is also where everything begins.
        space, gap = (-np.inf, 0), (0.0, 0)
        for frame in np.asarray(log_probs, np.float64):
            entry = max(space, gap)
            options = np.full((4, n), -np.inf)
            tokens = np.zeros((4, n), np.int64)
            options[0], tokens[0] = score, token
            options[1, 1:], tokens[1, 1:] = score[:-1], token[:-1]
            options[1, self._enters] = -np.inf
            options[2, 2:], tokens[2, 2:] = score[:-2], token[:-2]
            options[2, ~self._skips] = -np.inf
            options[3, self._enters], tokens[3, self._enters] = entry
            best = options.argmax(0)
            column = np.arange(n)
            ended, ended_token = self._best_end(score, token)
            score = options[best, column] + frame[self.symbols]
            token = tokens[best, column]
            gap = max((gap[0] + frame[BLANK], gap[1]), (space[0] + frame[BLANK], space[1]))
            space = (space[0] + frame[SPACE], space[1])
            if ended + frame[SPACE] > space[0]:
                history.append(ended_token)
                space = (ended + frame[SPACE], len(history) - 1)
        ended, (before, word) = self._best_end(score, token)
        rest = max(space, gap)
        words = [word] if ended > rest[0] else []
        at = before if ended > rest[0] else rest[1]
        while at > 0:
            at, word = history[at]
            words.append(word)
        return [self.words[word] for word in reversed(words)]

    def _best_end(self, score: np.ndarray, token: np.ndarray) -> tuple[float, tuple[int, int]]:
        """The best word end (its last letter or the blank after it): its score, and (history before it, word)."""
        ends = np.maximum(score[self.last], score[self.last - 1])
        word = int(ends.argmax())
        row = self.last[word] if score[self.last[word]] >= score[self.last[word] - 1] else self.last[word] - 1
        return float(ends[word]), (int(token[row]), word)
