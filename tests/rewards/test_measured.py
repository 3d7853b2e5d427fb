"""Rewards that need nobody's opinion: the rule, the delivery, what is understood, and the form."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tests.metrics.test_alignment import heard
from tests.rewards.replies import answer, buzz, example, silence
from wavalign.audio import Waveform
from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.delivery import FEATURES, DeliveryReferences, Reference, features
from wavalign.metrics.measures import measure
from wavalign.metrics.recogniser import Transcript
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.delivery import reward_of
from wavalign.rewards.intelligibility import error_rate
from wavalign.rewards.protocol import RewardError
from wavalign.rewards.registry import RewardContext, build

CONFIG = RewardConfig()


def reward(name, config=CONFIG, **parts):
    return build(name, config, SimpleNamespace(**parts))


# The rule


def test_the_rule_gives_the_grade_of_the_text():
    texts = ("seven plus five is twelve", "twelve", "seven plus five is eleven", "the cow says moo", "")
    assert reward("rule").score([answer(text) for text in texts]) == [5, 4, 3, 2, 1]


def test_the_rule_needs_an_item_that_there_is():
    with pytest.raises(RewardError, match='example b has no "item"'):
        reward("rule").score([answer(of=example("b", item=None))])
    with pytest.raises(RewardError, match=r"Example b: ClosedTalk has no item 'add/cow'"):
        reward("rule").score([answer(of=example("b", item="add/cow"))])


# The delivery

TEXT = "seven plus five is twelve"


def references(neutral: np.ndarray) -> DeliveryReferences:
    """Neutral is where ``neutral`` is; every further delivery lies 10, five spreads, above the one before."""
    means = {delivery: neutral + 10.0 * number for number, delivery in enumerate(Delivery)}
    spread = np.full(len(FEATURES), 2.0)
    return DeliveryReferences({d: Reference(mean, spread, 10) for d, mean in means.items()})


def test_the_reward_falls_from_5_with_the_distance_and_never_reaches_1():
    # 1 + 4 / (1 + 0), 1 + 4 / (1 + 1), 1 + 4 / (1 + 4), 1 + 4 / (1 + 1 / 9)
    assert [reward_of(d) for d in (0, 1.5, 3.0, 0.5)] == pytest.approx([5, 3, 1.8, 4.6])
    assert 1 < reward_of(50) < reward_of(20) < 1.05


def test_a_reply_in_the_wanted_delivery_earns_more_than_one_in_another():
    sound = buzz()
    judged = reward("delivery", references=references(features(measure(sound, TEXT))))
    wanted = [answer(TEXT, sound, example(delivery=delivery.value)) for delivery in (Delivery.NEUTRAL, Delivery.HAPPY)]
    # On the mean: 5. Five spreads away in every feature: 1 + 4 / (1 + (5 / 1.5)^2) = 1.330.
    assert judged.score(wanted) == pytest.approx([5.0, 1.330], abs=1e-3)


def test_of_two_replies_in_the_same_delivery_the_nearer_earns_more():
    sound = buzz()
    judged = reward("delivery", references=references(features(measure(sound, TEXT))))
    near, louder, far = judged.score([answer(TEXT, buzz(level=level)) for level in (0.1, 0.2, 0.4)])
    assert near > louder > far > 1


def test_what_cannot_be_measured_is_1_and_not_a_failure():
    judged = reward("delivery", references=references(np.zeros(4)))
    empty = Waveform(np.zeros(0), 16_000)
    assert judged.score([answer(TEXT, w) for w in (None, empty, silence())] + [answer("", buzz())]) == [1, 1, 1, 1]


def test_the_delivery_must_be_known():
    judged = reward("delivery", references=references(np.zeros(4)))
    with pytest.raises(RewardError, match=r"example c has 'angry'"):
        judged.score([answer(of=example("c", delivery="angry"))])
    with pytest.raises(RewardError, match="example c has None"):
        judged.score([answer(of=example("c", delivery=None))])


def test_the_shipped_references_are_found_in_the_assets():
    from wavalign.training.data import ASSETS

    judged = build("delivery", CONFIG, RewardContext(ASSETS))
    (score,) = judged.score([answer(TEXT, buzz())])
    assert 1 < score < 5


def test_missing_assets_are_one_sentence(tmp_path):
    with pytest.raises(RewardError, match="There is no recogniser in"):
        build("intelligibility", CONFIG, RewardContext(tmp_path))
    with pytest.raises(RewardError, match="cannot be read"):
        build("delivery", CONFIG, RewardContext(tmp_path))


# What is understood


class Ears:
    """Hears what it was told it hears: the recogniser's own accuracy is tested elsewhere."""

    def __init__(self, text: str, raw: str | None = None) -> None:
        self.transcript = Transcript(text, text if raw is None else raw, 1.0)

    def transcribe_with_confidence(self, waveforms):
        return [self.transcript for _ in waveforms]


def understood(text, heard, raw=None, letter_share=0.0):
    config = RewardConfig(letter_share=letter_share)
    (score,) = reward("intelligibility", config, recogniser=Ears(heard, raw)).score([answer(text, buzz())])
    return score


def test_words_heard_as_they_are_written_earn_5():
    assert understood("Seven plus five is twelve.", "seven plus five is twelve", letter_share=0.5) == 5


def test_each_wrong_word_costs_its_share():
    # One of five words: 1 + 4 (1 - 0.2) = 4.2. Two of five: 3.4. All of them and more: 1.
    assert understood("seven plus five is twelve", "seven plus five is eleven") == pytest.approx(4.2)
    assert understood("seven plus five is twelve", "seven plus nine is eleven") == pytest.approx(3.4)
    assert understood("twelve", "the cow says moo") == 1
    assert understood("twelve", "") == 1


def test_letters_tell_apart_replies_whose_words_are_all_understood():
    # The lexicon repairs "twelv": no word is wrong, one letter of six is: error (0 + 1/6) / 2, 1 + 4 (11 / 12).
    assert understood("twelve", "twelve", raw="twelv", letter_share=0.5) == pytest.approx(1 + 4 * 11 / 12)
    assert error_rate("twelve", "twelve", "twelv", 1.0) == pytest.approx(1 / 6)


def test_nothing_said_is_1_and_not_a_failure():
    judged = reward("intelligibility", recogniser=Ears("twelve"))
    assert judged.score([answer("twelve", None), answer("...", buzz()), answer("", buzz())]) == [1, 1, 1]


# The pronunciation


class Letters:
    """A recogniser that hears these symbols, one a frame, with probability 0.9."""

    def __init__(self, frames: str) -> None:
        self.log_probs = heard(frames)

    def letter_log_probs(self, waveform):
        return self.log_probs


def test_each_word_is_scored_where_it_is_spoken():
    """Fits 0.9 and (0.9 * 0.9 * e^-4.6)^(1/3); frames 1 to 5 and 5 to 10, of 20 ms each."""
    (found,) = reward("pronunciation", recogniser=Letters("_cat_ _dop__")).score([answer("cat dog", buzz())])
    poor = 1 + 4 * np.exp((2 * np.log(0.9) - 4.6) / 3)
    assert [span.label for span in found.spans] == ["cat", "dog"]
    assert [(span.start, span.end) for span in found.spans] == [(0.02, 0.1), (0.1, 0.2)]
    assert [span.score for span in found.spans] == pytest.approx([1 + 4 * 0.9, poor])
    assert found.value == pytest.approx((1 + 4 * 0.9 + poor) / 2)


def test_what_says_no_word_is_1_throughout_and_not_a_failure():
    judged = reward("pronunciation", recogniser=Letters("_a_"))
    unheard, numbers, crowded = judged.score([answer("a", None), answer("12", buzz()), answer("abcdef", buzz())])
    assert (unheard.value, unheard.spans) == (1.0, ())
    for found in (numbers, crowded):
        assert (found.value, [(s.start, s.end, s.score) for s in found.spans]) == (1.0, [(0.0, 0.8, 1.0)])


# The form


def test_a_whole_reply_is_5_and_any_fault_of_form_is_1():
    whole = answer("twelve", buzz())
    faults = [
        answer("twelve", buzz(), finished=False),
        answer("twelve", buzz(), well_formed=False),
        answer(" ", buzz()),
        answer("twelve", Waveform(np.zeros(0), 16_000)),
    ]
    assert reward("format").score([whole, answer("twelve", None), *faults]) == [5, 5, 1, 1, 1, 1]
