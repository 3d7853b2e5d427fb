from __future__ import annotations

import pytest

from wavalign.metrics.wer import corpus_word_error_rate, normalise, word_error_rate, word_errors


def test_a_substitution_a_deletion_and_an_insertion_are_three_errors_of_five_words():
    # seven [plus->minus] five [is->] twelve [+now]
    assert word_error_rate("seven plus five is twelve", "seven minus five twelve now") == pytest.approx(3 / 5)


def test_case_punctuation_and_apostrophes_do_not_count():
    assert word_error_rate("The cow says: “Moo!”", "the cow says moo") == 0.0
    assert normalise("Don’t  stop—now_please") == "dont stop now please"


def test_nothing_heard_is_all_wrong_and_nothing_to_say_has_no_rate():
    assert word_error_rate("seven plus five", "") == 1.0
    assert word_error_rate("", "seven") is None
    assert word_errors("...", "seven plus").errors == 2


def test_the_corpus_rate_weighs_words_not_sentences():
    # 1 error of 1 word and 0 errors of 4 words: 1/5, not the mean of 1 and 0.
    assert corpus_word_error_rate([("blue", "red"), ("two plus two is", "two plus two is")]) == pytest.approx(0.2)
    assert corpus_word_error_rate([]) is None
