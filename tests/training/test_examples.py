"""Examples, their order, and prompts whose speech is codes already."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.tiny import make_tiny_checkpoint
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.registry import Registry
from wavalign.training.examples import Entry, Example, Examples, UnreadableRow
from wavalign.training.order import Order

QUESTION = Dialogue((Turn("user", text="what is two plus two"),))
EXPECTED = [3, 6, 4, 7, 0, 5, 2, 1, 2, 7, 1, 6, 5, 0, 4, 3]


def test_a_prompt_must_end_with_the_user():
    with pytest.raises(ValueError, match="must end with a user turn"):
        Example("a", QUESTION.plus(Turn("assistant", text="four")))
    with pytest.raises(ValueError, match="must end with a user turn"):
        Example("a", Dialogue())


def test_a_target_needs_words_and_sound():
    assert not Example("a", QUESTION).has_target
    assert not Example("a", QUESTION, target_text="four").has_target
    whole = Example("a", QUESTION, target_text="four", target_speech=(1, 2))
    assert whole.has_target
    assert not whole.has_rejected


def test_a_preference_needs_both_whole_replies():
    example = Example("a", QUESTION, "four", (1, 2), "five", Waveform(np.zeros(9), 16_000))
    assert example.has_rejected
    assert not Example("a", QUESTION, None, None, "five", (3,)).has_rejected


def test_examples_are_read_when_they_are_asked_for():
    read = []

    def load():
        read.append("b")
        return Example("b", QUESTION)

    left_out = [UnreadableRow("x.jsonl", 3, "the line is not JSON.")]
    examples = Examples([Example("a", QUESTION), Entry("b", "both", load)], left_out)
    assert examples.ids == ("a", "b")
    assert not read
    assert examples[-1].id == "b"
    assert read == ["b"]
    assert [example.id for example in examples[:1]] == ["a"]
    assert [str(row) for row in examples[:1].unreadable] == ["x.jsonl:3: the line is not JSON."]


def test_every_epoch_draws_everything_once_in_an_order_of_its_own():
    order = Order(20, seed=3)
    epochs = [order.take(20 * epoch, 20) for epoch in range(3)]
    assert all(Counter(epoch) == Counter(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != Order(20, seed=4).take(0, 20)


def test_the_position_is_the_whole_state():
    whole = Order(7, seed=1).take(0, 30)
    assert Order(7, seed=1).take(13, 17) == whole[13:]
    jumping = Order(7, seed=1)
    assert [jumping[p] for p in (25, 3, 14)] == [whole[p] for p in (25, 3, 14)]


def test_the_order_of_a_seed_never_changes():
    """A resumed run on another machine or with a newer version must go on as it began."""
    assert Order(8, seed=0).take(0, 16) == EXPECTED


def test_without_shuffling_the_source_decides():
    assert Order(3, shuffle=False).take(0, 7) == [0, 1, 2, 0, 1, 2, 0]


def test_there_is_no_order_of_nothing():
    with pytest.raises(ValueError, match="no examples"):
        Order(0)
    with pytest.raises(IndexError):
        Order(3)[-1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = make_tiny_checkpoint(tmp_path_factory.mktemp("assets") / "tiny")
    return Registry(folder.parent).load(["tiny"])


def test_codes_of_a_user_stand_in_the_prompt_as_speech_and_its_text_is_only_a_transcript(model):
    coded = model.encode_prompt(Dialogue((Turn("user", text="what is two", codes=(1, 2, 3)),)))
    marks = model.tokens.prompt
    speech = model.tokens.speech_ids([1, 2, 3])
    assert [i for i in coded if i in speech] == speech
    assert coded == model.encode_prompt(Dialogue((Turn("user", tokens=tuple(speech)),)))
    assert marks["audio_begin"][0] in coded


def test_codes_of_a_reply_in_the_history_are_packed_as_a_target_is(model):
    user = Turn("user", text="what is two")
    codes = tuple(range(12))
    target = tuple(model.encode_target("two and two is four", codes))
    as_codes = Dialogue((user, Turn("assistant", text="two and two is four", codes=codes), user))
    as_tokens = Dialogue((user, Turn("assistant", tokens=target), user))
    assert model.encode_prompt(as_codes) == model.encode_prompt(as_tokens)
