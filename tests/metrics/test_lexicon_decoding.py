import numpy as np
import pytest

from wavalign.codecs.fsq_world import LETTERS
from wavalign.metrics.lexicon_decoding import LexiconDecoder


def frames(symbols: str, sure: float = 0.9) -> np.ndarray:
    """One frame for each symbol ("-" is blank), which has probability ``sure``; the others share the rest."""
    probabilities = np.full((len(symbols), len(LETTERS) + 1), (1 - sure) / len(LETTERS))
    for frame, symbol in enumerate(symbols):
        probabilities[frame, 0 if symbol == "-" else LETTERS.index(symbol) + 1] = sure
    return np.log(probabilities)


def test_clear_letters_are_their_words() -> None:
    decoder = LexiconDecoder(["cat", "dog", "two"])
    assert decoder.decode(frames("-ccaa-t  dd-oog-")) == ["cat", "dog"]


def test_equal_letters_need_a_blank_between_them() -> None:
    decoder = LexiconDecoder(["see", "se"])
    assert decoder.decode(frames("se-e")) == ["see"]
    assert decoder.decode(frames("seee")) == ["se"]


def test_misheard_letters_become_the_likeliest_word() -> None:
    decoder = LexiconDecoder(["seven", "eleven", "five"])
    assert decoder.decode(frames("sefen five")) == ["seven", "five"]


def test_words_that_ran_together_are_parted() -> None:
    # A weak space: at one frame the space has the second-best probability.
    probabilities = np.exp(frames("twoxsix"))
    probabilities[3] = 0.01
    probabilities[3, 1], probabilities[3, LETTERS.index("x") + 1] = 0.35, 0.38
    assert LexiconDecoder(["two", "six"]).decode(np.log(probabilities)) == ["two", "six"]


def test_silence_is_no_words() -> None:
    assert LexiconDecoder(["cat"]).decode(frames("-----")) == []
    assert LexiconDecoder(["cat"]).decode(np.zeros((0, 28))) == []


def test_an_empty_lexicon_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        LexiconDecoder([])
