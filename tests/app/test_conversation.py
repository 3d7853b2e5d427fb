"""What a conversation remembers, forgets and exports."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import soundfile

from app.conversation import Answer, Asked, Conversation, ConversationError, Exchange, Figures
from wavalign.audio import Waveform
from wavalign.dialogue import Reply, Turn


def tone(hertz: float, seconds: float = 0.5) -> Waveform:
    return Waveform(0.3 * np.sin(2 * np.pi * hertz * np.arange(int(16000 * seconds)) / 16000), 16000)


def exchange(words: str, *texts: str) -> Exchange:
    answers = tuple(
        Answer(f"model-{n}", Reply(text, tone(200), (n, 2, 3)), Figures(f0_median_hz=200.0), "happy")
        for n, text in enumerate(texts)
    )
    return Exchange(Asked(Turn("user", text=words)), answers, {"seed": 7})


def test_each_side_answers_its_own_history():
    conversation = Conversation(("x", "y")).plus(exchange("one", "reply of a", "reply of b"))
    asked = Asked(Turn("user", text="two"))
    texts = [[turn.text for turn in conversation.dialogue(side, asked).turns] for side in (0, 1)]
    assert texts == [["one", "reply of a", "two"], ["one", "reply of b", "two"]]


def test_a_model_is_given_back_exactly_the_tokens_it_said():
    conversation = Conversation(("x",)).plus(exchange("one", "reply"))
    assert conversation.dialogue(0, Asked(Turn("user", text="two"))).turns[1].tokens == (0, 2, 3)


def test_a_question_without_an_answer_is_shown_but_not_part_of_the_history():
    conversation = Conversation(("x",)).plus(exchange("outside its world")).plus(exchange("one", "reply"))
    asked = Asked(Turn("user", text="two"))
    assert [turn.text for turn in conversation.dialogue(0, asked).turns] == ["one", "reply", "two"]
    assert conversation.questions() == ("outside its world", "one")


def test_regenerating_asks_the_last_question_again_with_the_history_before_it():
    conversation = Conversation(("x",)).plus(exchange("one", "first")).plus(exchange("two", "second"))
    before, asked = conversation.without_last()
    assert asked.turn.text == "two"
    assert [turn.text for turn in before.dialogue(0, asked).turns] == ["one", "first", "two"]


def test_an_empty_conversation_has_nothing_to_regenerate_or_download():
    with pytest.raises(ConversationError, match="Ask something first"):
        Conversation(("x",)).without_last()
    with pytest.raises(ConversationError, match="Ask something first"):
        Conversation(("x",)).export()


def test_one_or_two_checkpoints():
    for names in ((), ("x", "y", "z")):
        with pytest.raises(ConversationError, match="one or two"):
            Conversation(names)


def test_the_number_of_answers_is_that_of_the_sides():
    with pytest.raises(ConversationError, match="Expected 2"):
        Conversation(("x", "y")).plus(exchange("one", "only a"))


def test_the_download_holds_every_turn_as_wav_and_its_words_and_measures_as_json():
    spoken = Exchange(
        Asked(Turn("user", speech=tone(150)), heard="what is one plus one"), exchange("", "two", "2").answers
    )
    data = Conversation(("x", "y")).plus(spoken).plus(exchange("typed", "c", "d")).export()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        record = json.loads(archive.read("conversation.json"))
        audio = {name: soundfile.read(io.BytesIO(archive.read(name))) for name in archive.namelist() if "wav" in name}
    assert sorted(audio) == [f"turn-0{n}-{s}.wav" for n, s in ((1, "a"), (1, "b"), (1, "user"), (2, "a"), (2, "b"))]
    assert all(rate == 16000 and np.abs(samples).max() > 0.2 for samples, rate in audio.values())
    first = record["turns"][0]
    assert record["checkpoints"] == {"a": "x", "b": "y"}
    assert first["user"]["heard"] == "what is one plus one"
    assert first["replies"]["b"]["text"] == "2"
    assert first["replies"]["a"]["delivery"] == "happy"
    assert first["replies"]["a"]["measures"]["f0_median_hz"] == 200.0
    assert record["turns"][1]["sampling"] == {"seed": 7}
