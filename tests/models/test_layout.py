"""A family is a description: what it can say, and what it refuses."""

from __future__ import annotations

import pytest

from tests import tiny
from wavalign.closedtalk.build.tokenizer import DESCRIPTION, SPECIALS
from wavalign.models.grammar import Grammar
from wavalign.models.layout import InterleavedDescription, LayoutError, resolve
from wavalign.models.protocol import Channel

EMBEDDED: dict = {}
VITA_AUDIO = {
    "first_chunks": [[1, 8]],
    "text_chunk": 4,
    "speech_chunk": 8,
    "text_end": None,
    "chunk_begin": "<|begin_of_audio|>",
    "chunk_end": "<|end_of_audio|>",
}
VITA_AUDIO_BALANCE = {**VITA_AUDIO, "first_chunks": [[1, 2], [3, 6]]}
GLM_4_VOICE = {"text_chunk": 13, "speech_chunk": 26, "text_end": None, "turn_end": "<|user|>"}
FAMILIES = {"embedded": EMBEDDED, "vita": VITA_AUDIO, "vita balance": VITA_AUDIO_BALANCE, "glm": GLM_4_VOICE}


def token_map(**changes: object):
    tokenizer = tiny.make_tokenizer()
    return resolve(InterleavedDescription.parse(tiny.interleaved_description(**changes)), tokenizer, len(tokenizer))


def words(count: int) -> list[int]:
    first = len(SPECIALS)
    return [first + i % len(tiny.WORDS) for i in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", [1, 2, 4, 5, 13, 14, 30])
@pytest.mark.parametrize("speech", [1, 8, 10, 26, 27, 80, 150])
def test_what_is_packed_obeys_the_state_machine_and_can_be_read_back(family: str, text: int, speech: int) -> None:
    tokens = token_map(**FAMILIES[family])
    codes = [i % tiny.CODES for i in range(speech)]
    try:
        packed = tokens.pack(words(text), codes)
    except LayoutError:
        # Only speech that runs out before its text may be refused.
        chunks = (text + tokens.description.text_chunk - 1) // tokens.description.text_chunk
        assert speech <= (chunks + 1) * tokens.description.speech_chunk
        return
    Grammar(tokens).check(packed)
    assert tokens.text_ids(packed) == words(text)
    assert tokens.codes_of(packed) == codes


def test_the_embedded_layout_is_four_text_ten_speech_and_the_rest_after_the_end_of_text() -> None:
    tokens = token_map()
    names = tiny.make_tokenizer().convert_ids_to_tokens(tokens.pack(words(6), list(range(25))))
    audio = [f"<|audio_{i}|>" for i in range(25)]
    text = tiny.WORDS[:6]
    assert names == [*text[:4], *audio[:10], *text[4:], "<|end_of_text|>", *audio[10:], "<|end_of_turn|>"]


def test_an_end_of_text_that_finds_its_chunk_full_opens_the_next() -> None:
    tokens = token_map()
    names = tiny.make_tokenizer().convert_ids_to_tokens(tokens.pack(words(4), list(range(12))))
    assert names[4] == "<|audio_0|>"
    assert names[14:17] == ["<|end_of_text|>", "<|audio_10|>", "<|audio_11|>"]


def test_vita_audio_sizes_do_not_count_boundaries_and_the_last_chunk_takes_the_rest() -> None:
    tokens = token_map(**VITA_AUDIO)
    names = tiny.make_tokenizer().convert_ids_to_tokens(tokens.pack(words(3), list(range(30))))
    begin, end = "<|begin_of_audio|>", "<|end_of_audio|>"
    first, rest = [f"<|audio_{i}|>" for i in range(8)], [f"<|audio_{i}|>" for i in range(8, 30)]
    assert names == [tiny.WORDS[0], begin, *first, end, *tiny.WORDS[1:3], begin, *rest, end, "<|end_of_turn|>"]


def test_channels_are_text_speech_and_format() -> None:
    tokens = token_map()
    ids = tiny.make_tokenizer().convert_tokens_to_ids(["seven", "<|audio_3|>", "<|end_of_text|>", "<|pad|>", "<|unk|>"])
    expected = [Channel.TEXT, Channel.SPEECH, Channel.FORMAT, Channel.FORMAT, Channel.FORMAT]
    assert tokens.channel_of(ids).tolist() == expected


def test_a_reply_must_begin_with_text_and_say_something() -> None:
    tokens = token_map()
    grammar = Grammar(tokens)
    for wrong in ([tokens.text_end], [tokens.turn_end], [tokens.speech_start], [words(1)[0], tokens.turn_end]):
        with pytest.raises(LayoutError):
            grammar.check(wrong)
    with pytest.raises(LayoutError, match="before its end of turn"):
        grammar.check(words(2))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"speech_first": "<|sound_0|>"}, "no token"),
        ({"speech_count": tiny.CODES + 1}, "is missing"),
        ({"speech_first": "<|audio|>"}, "numbered"),
        ({"text_end": "<|finis|>"}, "text_end"),
        ({"prompt": {**DESCRIPTION["prompt"], "user": "<|you|>"}}, "prompt user"),
        ({"text_chunk": 0}, "text_chunk"),
        ({"text_chunk": "4"}, "text_chunk"),
        ({"chunk_begin": "<|begin_of_audio|>"}, "go together"),
        ({"ratio": 4}, "unknown field"),
        ({"pattern": "once"}, "pattern"),
        ({"sampling": {"temperature": -1}}, "temperature"),
        ({"first_chunks": [[1]]}, "first_chunks"),
        ({"family": None}, "family"),
    ],
)
def test_a_wrong_description_is_one_sentence_about_the_field(change: dict, sentence: str) -> None:
    with pytest.raises(LayoutError, match=sentence):
        token_map(**change)


def test_speech_tokens_out_of_order_are_refused() -> None:
    class Shuffled:
        def __init__(self) -> None:
            self.real = tiny.make_tokenizer()

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

        def get_vocab(self) -> dict[str, int]:
            vocabulary = dict(self.real.get_vocab())
            a, b = "<|audio_3|>", "<|audio_4|>"
            vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
            return vocabulary

    description = InterleavedDescription.parse(tiny.interleaved_description())
    with pytest.raises(LayoutError, match="one block in order"):
        resolve(description, Shuffled(), len(tiny.make_tokenizer()))
