"""Which speech tokens are moved by what was heard where they sound."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.test_hybrid import REPLIES, method, plan_of, rewarded
from wavalign.audio import Waveform
from wavalign.rewards.protocol import Answer, Span
from wavalign.training.config import ConfigError, PolicyGradient
from wavalign.training.credit import refuse_idle, speech_advantages
from wavalign.training.rollouts import Rewarded

NAN = float("nan")


def heard(
    seconds: list[float | None], spans: list[tuple[Span, ...]], parts=None, shares=None, name: str = "clear"
) -> Rewarded:
    """One group whose replies last so long (None: never heard), judged part by part by the reward ``name``."""
    replies = rewarded([[[3, 8, 11, 12, 13, 14, 9] for _ in seconds]], [[1.0] * len(seconds)])
    group = replies.groups[0]
    for length in seconds:
        waveform = None if length is None else Waveform(np.zeros(int(100 * length)), 100)
        group.answers.append(Answer(group.example, "one two", waveform, True))
    replies.channel["speech"][:] = [[NAN if length is None else 3.0 for length in seconds]]
    return Rewarded(
        replies.groups,
        replies.combined,
        replies.channel,
        parts or {},
        {},
        {name: [spans]} if spans else {},
        {"speech": shares or {name: 1.0}},
    )


def test_a_word_moves_the_tokens_that_speak_it():
    """4 tokens in 4 s sound at 0.5, 1.5, 2.5 and 3.5 s. "one" scores 5 and 3 (usual 4), "two" 5 and 5: gains +1, 0 and
    -1, 0, whose root mean square is sqrt(2 / 4)."""
    first = (Span(0.0, 2.0, 5.0, "one"), Span(2.0, 3.0, 5.0, "two"))
    second = (Span(1.0, 3.0, 3.0, "one"), Span(3.0, 4.0, 5.0, "two"))
    (moved,) = speech_advantages(heard([4.0, 4.0], [first, second]), [[4, 4]], {})
    step = 1 / np.sqrt(0.5)
    assert moved[0] == pytest.approx([step, step, 0, 0])
    assert moved[1] == pytest.approx([0, -step, -step, 0])


def test_a_word_that_one_reply_alone_has_is_compared_with_all_words():
    """Scores 5, 3 and 1, mean 3: gains 2, 0, -2, whose root mean square is sqrt(8 / 3)."""
    first = (Span(0.0, 1.0, 5.0, "one"), Span(1.0, 2.0, 3.0, "two"))
    second = (Span(0.0, 2.0, 1.0, "three"),)
    (moved,) = speech_advantages(heard([2.0, 2.0], [first, second]), [[2, 1]], {})
    step = 2 / np.sqrt(8 / 3)
    assert moved[0] == pytest.approx([step, 0])
    assert moved[1] == pytest.approx([-step])


def test_small_differences_stay_small():
    """Gains of +-0.1 are divided by 0.5 and not by 0.1; without scaling by nothing."""
    replies = heard([1.0, 1.0], [(Span(0.0, 1.0, 4.9, "one"),), (Span(0.0, 1.0, 4.7, "one"),)])
    assert [m.tolist() for m in speech_advantages(replies, [[1, 1]], {})[0]] == [
        pytest.approx([0.2]),
        pytest.approx([-0.2]),
    ]
    assert [m.tolist() for m in speech_advantages(replies, [[1, 1]], {}, "none")[0]] == [
        pytest.approx([0.1]),
        pytest.approx([-0.1]),
    ]


def test_what_is_good_enough_is_not_told_apart():
    spans = [(Span(0.0, 1.0, 4.9, "one"),), (Span(0.0, 1.0, 3.1, "one"),)]
    moved = speech_advantages(heard([1.0, 1.0], spans), [[1, 1]], {"clear": 3.0})
    assert [m.tolist() for m in moved[0]] == [[0.0], [0.0]]
    parts = {"style": np.array([[4.0, 4.8, 2.0, 4.0]])}
    whole = heard([1.0] * 4, [], parts, {"style": 1.0})
    # 3.5, 3.5, 2, 3.5: mean 3.125, deviation sqrt(3 * 0.375^2 + 1.125^2) / 2 = 0.6495.
    (moved,) = speech_advantages(whole, [[1, 2, 1, 1]], {"style": 3.5})
    assert moved[1] == pytest.approx([0.375 / 0.6495] * 2, rel=1e-3)
    assert moved[2] == pytest.approx([-1.125 / 0.6495], rel=1e-3)


def test_rewards_count_with_their_shares_and_an_unheard_reply_with_nothing():
    """Style: 5 and 3, advantages +-1. Clear: gains +-1, root mean square 1. The third reply was never heard."""
    parts = {"style": np.array([[5.0, 3.0, NAN]]), "clear": np.array([[3.0, 5.0, NAN]])}
    spans = [(Span(0.0, 1.0, 3.0, "one"),), (Span(0.0, 1.0, 5.0, "one"),), ()]
    replies = heard([1.0, 1.0, None], spans, parts, {"style": 0.75, "clear": 0.25})
    (moved,) = speech_advantages(replies, [[1, 1, 2]], {})
    assert moved[0] == pytest.approx([0.75 - 0.25], abs=1e-3)
    assert moved[1] == pytest.approx([0.25 - 0.75], abs=1e-3)
    assert moved[2].tolist() == [0.0, 0.0]


def test_a_reply_of_which_one_reward_failed_is_in_no_mean():
    """Without the third reply: style 5 and 3 (advantages +-1), clear 5 and 3 (gains +-1)."""
    parts = {"style": np.array([[5.0, 3.0, 1.0]]), "clear": np.array([[5.0, 3.0, 1.0]])}
    spans = [(Span(0.0, 1.0, score, "one"),) for score in (5.0, 3.0, 1.0)]
    replies = heard([1.0, 1.0, 1.0], spans, parts, {"style": 0.5, "clear": 0.5})
    replies.channel["speech"][0, 2] = NAN
    (moved,) = speech_advantages(replies, [[1, 1, 1]], {})
    assert [m.tolist() for m in moved] == [pytest.approx([1.0], abs=1e-3), pytest.approx([-1.0], abs=1e-3), [0.0]]


class Mix:
    """What a ``RewardMix`` says of its rewards."""

    def __init__(self, *names: str, timed: tuple[str, ...] = ()) -> None:
        self.names, self.timed = names, timed

    def names_for(self, channel: str) -> tuple[str, ...]:
        return self.names

    def timed_for(self, channel: str) -> tuple[str, ...]:
        return self.timed


def test_settings_that_would_do_nothing_are_refused():
    words = PolicyGradient(scope="routed", speech_credit="words", speech_enough={"answer": 4.0})
    with pytest.raises(ConfigError, match="names answer, but speech is judged by delivery, pronunciation"):
        refuse_idle(words, Mix("delivery", "pronunciation", timed=("pronunciation",)), True)
    plain = PolicyGradient(scope="routed", speech_credit="words")
    with pytest.raises(ConfigError, match="no reward says when it heard something; give pronunciation a weight"):
        refuse_idle(plain, Mix("delivery"), True)
    with pytest.raises(ConfigError, match="not for this model"):
        refuse_idle(plain, Mix("pronunciation", timed=("pronunciation",)), False)
    refuse_idle(plain, Mix("pronunciation", timed=("pronunciation",)), True)
    refuse_idle(PolicyGradient(), Mix("delivery"), False)


def test_credit_by_words_reaches_speech_and_nothing_else():
    replies = rewarded(REPLIES, [[5, 1]], text=[[5, 1]], speech=[[3, 3]])
    for length in (2, 3):
        answer = Answer(replies.groups[0].example, "one", Waveform(np.zeros(100 * length), 100), True)
        replies.groups[0].answers.append(answer)
    spans = [(Span(0.0, 1.0, 5.0, "one"),), (Span(0.0, 1.0, 1.0, "one"),)]
    timed = Rewarded(
        replies.groups,
        replies.combined,
        replies.channel,
        {"clear": np.array([[3.0, 3.0]])},
        {"clear": np.zeros((1, 2), bool)},
        {"clear": [spans]},
        {"speech": {"clear": 1.0}},
    )
    first, second = plan_of(method("routed", speech_credit="words", speech_negative=0.5), timed).units[0].completions
    assert first.advantage.tolist() == pytest.approx([1, 1, 1, 1, 0, 0], abs=1e-3)
    assert second.advantage.tolist() == pytest.approx([-1, -1, -0.5, 0, 0, 0], abs=1e-3)
    assert (first.gain[3:5] > 0).all()
    assert first.gain[5] == 0
