"""Prompts and replies of VITA-Audio, GLM-4-Voice and Step-Audio 2 are, token by token, what is worked out by hand."""

from __future__ import annotations

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest

from evaluation.speed_gpu_rows import hum
from tests.models.family_bases import TYPED, names_of, prompt_of
from wavalign.dialogue import Dialogue, Turn
from wavalign.training.channels import FORMAT, SPEECH, TEXT, channels_of


def audio(start: int, stop: int, name: str = "<|audio_{}|>") -> list[str]:
    return [name.format(number) for number in range(start, stop)]


# Replies. The tiny tokenizers know the words one to ten whole, each with the space before it.


def test_vita_audio_says_one_word_then_four_and_eight_codes_between_boundaries_each_time(bases: dict) -> None:
    base = bases["vita-audio-plus"]
    model = base.policy({"x": None})
    words = names_of(base, base.prompter.text_ids("one two three four five"))
    assert words == ["one", " two", " three", " four", " five"]
    begin, end = "<|begin_of_audio|>", "<|end_of_audio|>"
    packed = model.encode_target("one two three four five", list(range(30)))
    assert names_of(base, packed) == [
        "one", begin, *audio(0, 8), end,
        " two", " three", " four", " five", begin, *audio(8, 16), end,
        "\n", begin, *audio(16, 30), end,  # what is left of the speech goes into the last chunk
        "<|im_end|>",
    ]  # fmt: skip
    channels = channels_of(model, packed).tolist()
    t, s, f = int(TEXT), int(SPEECH), int(FORMAT)
    chunk = [f, *[s] * 8, f]
    assert channels == [t, *chunk, t, t, t, t, *chunk, t, f, *[s] * 14, f, f]
    assert model.well_formed(packed, whole=True)
    assert not model.well_formed(packed[:-1], whole=True)
    assert model.text_of(packed) == "one two three four five\n"
    # Speech that ends before the line break would come goes without it.
    assert names_of(base, model.encode_target("one", [1, 2])) == [
        "one",
        begin,
        "<|audio_1|>",
        "<|audio_2|>",
        end,
        "<|im_end|>",
    ]


def test_glm_4_voice_says_13_words_then_26_codes_and_ends_at_the_next_turns_mark(bases: dict) -> None:
    base = bases["glm-4-voice"]
    model = base.policy({"x": None})
    text = "one two three four five six seven eight nine ten one two three four five"
    words = names_of(base, base.prompter.text_ids(text))
    assert len(words) == 15
    packed = model.encode_target(text, list(range(40)))
    assert names_of(base, packed) == [*words[:13], *audio(0, 26), *words[13:], *audio(26, 40), "<|user|>"]
    assert channels_of(model, packed).tolist() == [0] * 13 + [1] * 26 + [0] * 2 + [1] * 14 + [2]
    assert model.well_formed(packed, whole=True)


def test_step_audio_2_says_a_word_and_four_codes_and_fills_up_what_has_ended(bases: dict) -> None:
    base = bases["step-audio-2"]
    model = base.policy({"x": None})
    packed = model.encode_target("one two", list(range(10)))
    names = names_of(base, packed)
    code = "<audio_{}>"
    assert names == [
        "one", *audio(0, 4, code), " two", *audio(4, 8, code),
        "<tts_pad>", *audio(8, 10, code), "<audio_64>", "<audio_64>", "<tts_end>", "<|EOT|>",
    ]  # fmt: skip
    assert channels_of(model, packed).tolist() == [0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 2]
    assert model.well_formed(packed, whole=True)
    assert model.text_of(packed) == "one two"
    assert base.tokens.codes_of(packed) == list(range(10))  # the fill is no code
    longer = names_of(base, model.encode_target("one two three", list(range(5))))
    assert longer[5:] == [
        " two",
        "<audio_4>",
        *["<audio_64>"] * 3,
        " three",
        *["<audio_64>"] * 4,
        "<tts_end>",
        "<|EOT|>",
    ]
    assert model.well_formed(model.encode_target("one two three", list(range(5))), whole=True)


@pytest.mark.parametrize(
    ("said", "fits"),
    [
        ("one <audio_0> <audio_1> <audio_2> <audio_3> <tts_end> <|EOT|>", True),
        ("one <audio_0> <audio_1> <tts_end> <|EOT|>", True),  # cut short, as the model may end
        ("one <audio_0> <audio_1> <audio_64> <audio_64> <tts_pad> <audio_3>", False),  # speech does not come back
        ("one <audio_0> <audio_1> <audio_2> <audio_3> <tts_pad> <audio_3> <audio_4> <audio_5> <audio_6> one", False),
        ("<tts_pad> <audio_0>", False),  # a reply begins with a word
        ("one one", False),
        ("one <audio_64>", False),  # and is heard
        ("one <audio_0> <audio_1> <audio_2> <audio_3> <|EOT|>", False),
    ],
)
def test_step_audio_2s_order_is_what_may_be_said(bases: dict, said: str, fits: bool) -> None:
    base = bases["step-audio-2"]
    ids = base.tokenizer.convert_tokens_to_ids(said.split())
    assert None not in ids
    assert base.policy({"x": None}).well_formed(ids, whole=fits) is fits


# Prompts


VITA_SYSTEM = (
    "<|im_start|>system\nYour Name: Luke\nYour Gender: male\n\nRespond in a text-audio interleaved manner.<|im_end|>\n"
)


def test_vita_audios_prompt(bases: dict) -> None:
    base = bases["vita-audio-plus"]
    asked = "<|im_start|>user\nWhat is<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_of(base, TYPED) == VITA_SYSTEM + asked
    reply = base.policy({"x": None}).encode_target("one", list(range(3)))
    goes_on = TYPED.plus(Turn("assistant", tokens=tuple(reply))).plus(Turn("user", text="two"))
    said = "one<|begin_of_audio|><|audio_0|><|audio_1|><|audio_2|><|end_of_audio|><|im_end|>\n"
    more = "<|im_start|>user\ntwo<|im_end|>\n<|im_start|>assistant\n"
    assert prompt_of(base, goes_on) == VITA_SYSTEM + asked + said + more
    # 1 s is 16 frames of 60 ms; the encoder puts 4 before them.
    heard = "<|begin_of_audio|>" + "<|context_of_audio|>" * 20 + "<|end_of_audio|>"
    spoken = prompt_of(base, Dialogue((Turn("user", speech=hum(1.0)),)))
    assert spoken == VITA_SYSTEM + f"<|im_start|>user\n{heard}<|im_end|>\n<|im_start|>assistant\n"


def test_glm_4_voices_prompt_asks_by_how_the_first_turn_was_given_and_names_each_turn_once(bases: dict) -> None:
    base = bases["glm-4-voice"]
    model = base.policy({"x": None})
    first = prompt_of(base, TYPED)
    assert first.startswith("[gMASK]<sop><|system|>\nUser will provide you with a text instruction. ")
    assert first.endswith("26 audio tokens.<|user|>\nWhat is<|assistant|>streaming_transcription\n")
    reply = model.encode_target("one", list(range(2)))
    goes_on = TYPED.plus(Turn("assistant", tokens=tuple(reply))).plus(Turn("user", codes=(5, 6)))
    assert prompt_of(base, goes_on) == first + (
        "one<|audio_0|><|audio_1|><|user|>\n<|begin_of_audio|><|audio_5|><|audio_6|><|end_of_audio|>"
        "<|assistant|>streaming_transcription\n"
    )
    spoken = prompt_of(base, Dialogue((Turn("user", codes=(1,)),)))
    assert spoken.startswith("[gMASK]<sop><|system|>\nUser will provide you with a speech instruction. ")
    assert "26 audio tokens. <|user|>\n<|begin_of_audio|><|audio_1|><|end_of_audio|><|assistant|>" in spoken


def test_step_audio_2s_prompt_calls_the_user_human_and_asks_for_speech(bases: dict) -> None:
    base = bases["step-audio-2"]
    system = "<|BOT|>system\nYou are a helpful assistant.<|EOT|>"
    asked = f"{system}<|BOT|>human\nWhat is<|EOT|><|BOT|>assistant\n<tts_start>"
    assert prompt_of(base, TYPED) == asked
    reply = base.policy({"x": None}).encode_target("one", list(range(4)))
    goes_on = TYPED.plus(Turn("assistant", tokens=tuple(reply))).plus(Turn("user", text="two"))
    said = "one<audio_0><audio_1><audio_2><audio_3><tts_end><|EOT|>"
    assert prompt_of(base, goes_on) == f"{asked}{said}<|BOT|>human\ntwo<|EOT|><|BOT|>assistant\n<tts_start>"
    # 1 s and 479 samples of silence are 102 frames; 100 count, 25 after the encoder, 13 after the adaptor.
    one = "<audio_start>" + "<audio_patch>" * 13 + "<audio_end>"
    spoken = prompt_of(base, Dialogue((Turn("user", speech=hum(1.0)),)))
    assert spoken == f"{system}<|BOT|>human\n{one}<|EOT|><|BOT|>assistant\n<tts_start>"
    # 26 s are two segments, of 25 s (313 vectors) and 1 s, each between marks.
    long = prompt_of(base, Dialogue((Turn("user", speech=hum(26.0)),)))
    assert long.count("<audio_start>") == 2
    assert long.endswith(f"<audio_patch><audio_end>{one}<|EOT|><|BOT|>assistant\n<tts_start>")
    assert long.count("<audio_patch>") == 313 + 13
