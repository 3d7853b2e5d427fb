"""Forced alignment: where the words of a known text are, and how well their letters fit."""

from __future__ import annotations

import numpy as np
import pytest

from wavalign.codecs.fsq_world import CTC_CLASSES, LETTERS
from wavalign.metrics.alignment import LEAST_LOG_FIT, align

BLANK = "_"


def heard(frames: str, certain: float = 0.9) -> np.ndarray:
    """Log-probabilities (T, 28) of a recogniser that hears one symbol a frame with probability ``certain``."""
    probabilities = np.full((len(frames), CTC_CLASSES), (1 - certain) / (CTC_CLASSES - 1))
    for time, symbol in enumerate(frames):
        probabilities[time, 0 if symbol == BLANK else LETTERS.index(symbol) + 1] = certain
    return np.log(probabilities)


def test_words_lie_where_their_letters_are_and_share_the_pause_between_them():
    """ "on" is heard in frames 1 to 2, "it" in 7 to 8; half way between their ends (3 and 7) is frame 5."""
    one, two = align(heard("_on__ _it_"), "On it!")
    assert (one.word, one.start, one.end) == ("on", 1, 5)
    assert (two.word, two.start, two.end) == ("it", 5, 9)
    assert one.fit == pytest.approx(0.9)
    assert two.fit == pytest.approx(0.9)


def test_a_letter_said_twice_needs_a_blank_between():
    (word,) = align(heard("_be_e_"), "bee")
    assert (word.start, word.end) == (1, 5)
    assert align(heard("bee"), "bee") is None  # three frames have no room for it
    assert align(heard("be_e"), "bee")[0].fit == pytest.approx(0.9)


def test_one_wrong_letter_of_a_word_lowers_that_word_only():
    """ "cat" heard as "cap": 0.9, 0.9 and what was left for a t, 0.1 / 27, which counts as exp(-4.6)."""
    small, big = align(heard("_cap_ _dog_"), "cat dog")
    assert small.fit == pytest.approx(np.exp((2 * np.log(0.9) + LEAST_LOG_FIT) / 3))
    assert big.fit == pytest.approx(0.9)


def test_another_word_in_its_place_hardly_fits():
    fits = {word.word: word.fit for word in align(heard("_before_ _friday_", 0.99), "before sunday")}
    assert fits["before"] > 0.9
    assert fits["sunday"] < 0.4


@pytest.mark.parametrize("text", ["", "12", "…"])
def test_a_text_without_letters_has_no_place(text):
    assert align(heard("__a__"), text) is None


def test_silence_has_no_room():
    assert align(np.zeros((0, CTC_CLASSES)), "word") is None
