"""Where words, silence and codes stand in Moshi's streams: in what was heard, in a reply and in a target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest

from evaluation.speed_gpu_rows import hum
from tests.models import tiny_moshi
from tests.models.tiny_moshi import SPOKEN, TYPED
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.protocol import Channel, GenerationError, Request

# The end of a reply, and what a token is


def padded_reply(model: Any, words: int, padding: int) -> list[int]:
    """A completion of so many columns with a word, then so many with padding; all codes are 0."""
    ids = model.base.ids
    text = [model.tokens.is_text.argmax()] * words + [ids.padding] * padding
    return ids.completion(np.array(text), np.zeros((len(text) - 1, ids.books), np.int64))


def test_a_reply_ends_with_a_pause_behind_its_words(model: Any) -> None:
    pause = model.base.ids.pause
    assert pause == 3  # 0.24 s of 80 ms
    assert model.well_formed(padded_reply(model, 2, pause), whole=True)
    assert not model.well_formed(padded_reply(model, 2, pause - 1), whole=True)
    assert model.well_formed(padded_reply(model, 2, pause - 1), whole=False)
    assert not model.well_formed(padded_reply(model, 2, pause + 1), whole=False)
    assert not model.well_formed(padded_reply(model, 0, pause), whole=True)  # a breath before the first word
    assert model.well_formed(padded_reply(model, 0, 2 * pause), whole=False)
    assert not model.well_formed([0, 0, 0], whole=False)
    assert not model.well_formed([10**6], whole=False)


def test_words_are_text_codes_are_speech_and_padding_is_format(model: Any) -> None:
    ids, tokens = model.base.ids, model.tokens
    assert model.text_end is None
    assert (ids.word_comes, ids.padding) == (0, 3)
    assert model.channel_of([0, 1, 2, 3]).tolist() == [Channel.FORMAT] * 4
    frames = ids.frames(model.encode_prompt(TYPED))
    assert (model.channel_of(frames.text) == Channel.TEXT).all()
    assert model.text_of(frames.text) == "What is seven plus five?"
    speech = model.channel_of(np.arange(tokens.speech_start, tokens.speech_stop))
    assert (speech == Channel.SPEECH).all()
    assert tokens.speech_stop == tokens.vocabulary_size == ids.user_start  # the user's codes are never drawn


# Turns


def test_a_conversation_keeps_what_was_said_frame_by_frame(model: Any) -> None:
    ids = model.base.ids
    (reply,) = model.reply_many([Request(SPOKEN, "moshi", replace(model.default_sampling, seed=3))])
    before = model.encode_prompt(SPOKEN)
    after = model.encode_prompt(SPOKEN.plus(reply.as_turn()).plus(TYPED.turns[0]))
    assert after[: len(before)] == before
    said = ids.frames(after[len(before) : -len(model.encode_prompt(TYPED))])
    assert model.text_of(said.text) == reply.text
    assert (said.user == model.base.prompter.silence).all()
    codes = ids.aligned(model.tokens.codes_of(reply.tokens))
    whole = len(codes) // ids.books
    assert model.base.mimi.flat(said.own[:whole]) == codes
    assert len(said) == len(ids.columns(reply.tokens))


def test_the_oldest_exchanges_give_way_and_what_is_too_long_is_one_sentence(model: Any) -> None:
    room = model.default_sampling.max_tokens
    long = Dialogue((Turn("user", speech=hum(14.0)),)).plus(Turn("assistant", text="one")).plus(SPOKEN.turns[0])
    assert len(model.encode_prompt(long, room)) > len(model.encode_prompt(SPOKEN, room))
    longer = Dialogue((Turn("user", speech=hum(15.0)),)).plus(Turn("assistant", text="one")).plus(SPOKEN.turns[0])
    assert model.encode_prompt(longer, room) == model.encode_prompt(SPOKEN, room)
    with pytest.raises(GenerationError, match=r"^That recording is 20 s [^\n]+ about 15 s[^\n]+$"):
        model.encode_prompt(Dialogue((Turn("user", speech=hum(20.0)),)), room)


@pytest.mark.parametrize(
    ("turn", "sentence"),
    [
        (Turn("user", speech=hum(0.0)), "empty"),
        (Turn("user", codes=(1, 2, 3)), "whole frames"),
        (Turn("user", codes=(500,) * tiny_moshi.BOOKS), "not speech codes"),
        (Turn("user", tokens=(1, 2, 3)), "hears recordings"),
    ],
)
def test_a_turn_that_cannot_be_heard_is_one_sentence(model: Any, turn: Turn, sentence: str) -> None:
    with pytest.raises(GenerationError, match=rf"^[^\n]*{sentence}[^\n]*[.]$"):
        model.encode_prompt(Dialogue((turn,)))


def test_a_history_of_another_model_is_one_sentence(model: Any) -> None:
    dialogue = TYPED.plus(Turn("assistant", tokens=(5, 9, 10**6))).plus(TYPED.turns[0])
    with pytest.raises(GenerationError, match="Start a new conversation"):
        model.encode_prompt(dialogue)


# Targets


def test_words_of_a_target_begin_where_their_letters_lie_in_the_speech(model: Any) -> None:
    """Ten frames: two of silence, six of sound, two of silence. "one two": "two" begins at 4/7 of the sound."""
    ids = model.base.ids
    frame = np.zeros(1920, np.float32)
    loud = hum(0.08, sample_rate=24_000).samples
    speech = Waveform(np.concatenate([*[frame] * 2, *[loud] * 6, *[frame] * 2]), 24_000)
    target = model.encode_target("one two", speech)
    text, own = ids.said(target, model.base.prompter.silence)
    words = [token for token in text.tolist() if model.tokens.is_text[token]]
    assert model.text_of(target) == model.text_of(words) == "one two"
    begins = [int(np.flatnonzero(text == token)[0]) for token in words]
    assert begins[0] == 2
    assert 2 + int(6 * 4 / 7) in begins
    assert text[1] == ids.word_comes
    assert own[:10].tolist() == model.base.mimi.frames(speech).tolist()
    assert model.well_formed(target, whole=True)
    assert text[-3:].tolist() == [ids.padding] * 3


@pytest.mark.parametrize("frames", [4, 5, 9, 30])
def test_a_target_is_a_whole_reply_however_long_its_speech(model: Any, frames: int) -> None:
    codes = [book * tiny_moshi.CODES + 7 for _ in range(frames) for book in range(tiny_moshi.BOOKS)]
    target = model.encode_target("one", codes)
    assert model.well_formed(target, whole=True)
    assert model.base.ids.aligned(model.tokens.codes_of(target))[: len(codes)] == codes
    assert model.decode_speech(target).seconds >= frames * 0.08


@pytest.mark.parametrize(
    ("text", "codes", "sentence"),
    [
        ("one", [1, 2], "whole frames"),
        ("one two three four", [0, 64, 128, 192], "too short for its text"),
        ("", [0, 64, 128, 192], "needs words"),
    ],
)
def test_a_target_that_cannot_be_is_one_sentence(model: Any, text: str, codes: list[int], sentence: str) -> None:
    with pytest.raises(GenerationError, match=rf"^[^\n]*{sentence}[^\n]*[.]$"):
        model.encode_target(text, codes)
