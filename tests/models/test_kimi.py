"""Kimi-Audio: which token stands in which step of its two streams, what the model reads, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest
import torch

from evaluation.speed_gpu_rows import hum
from tests.models.tiny_kimi import (
    CODES,
    DELAY,
    NAMES,
    OFFSET,
    make_tiny_kimi,
)
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import kimi_loading
from wavalign.models.kimi_prompting import audio_of, text_of
from wavalign.models.kimi_tokens import MARKS, Marks, Streams, grammar_of
from wavalign.models.layout import LayoutError
from wavalign.models.parallel_tokens import ParallelTokens, SpeechPieces
from wavalign.models.protocol import Channel, GenerationError, Sampling
from wavalign.models.shared_rows import Scored, SharedRow

TRUST = "WAVALIGN_TRUST_REMOTE_CODE"
ENDS = Marks(msg_end=20, media_begin=21, media_end=22, blank=23, text_end=24, user=25, assistant=26, speak=27)
WORDS = ParallelTokens.of(range(20), 40, 30, 10, 1, SpeechPieces(1), text_end=24, turn_end=20)
STREAMS = Streams(WORDS, ENDS, delay=6)
_, EOS, END = 23, ENDS.text_end, ENDS.msg_end
TYPED = Dialogue((Turn("user", text="hi"),))
SPOKEN = Dialogue((Turn("user", speech=hum(0.9)),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_kimi(tmp_path_factory.mktemp("kimi") / "tiny-base")


@pytest.fixture(scope="module")
def base(folder: Path) -> Any:
    return kimi_loading.load_base("tiny-base", folder, trust_remote_code=True)


# Steps


def test_audio_begins_six_steps_behind_the_text() -> None:
    packed = STREAMS.pack([1, 2, 3], [0, 5, 9])
    assert packed == [1, 2, 3, EOS, 30, 35, 39, END]
    assert STREAMS.steps_of(packed).tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    columns = STREAMS.columns(packed)
    assert columns.text == [1, 2, 3, EOS, _, _, _, _, _, _]
    assert columns.audio == [_, _, _, _, _, _, 30, 35, 39, END]


def test_a_text_that_is_longer_than_the_delay_goes_on_beside_the_audio() -> None:
    packed = STREAMS.pack([1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2])
    assert packed == [1, 2, 3, 4, 5, 6, 7, 30, 8, 31, EOS, 32, END]
    columns = STREAMS.columns(packed)
    assert columns.text == [1, 2, 3, 4, 5, 6, 7, 8, EOS, _]
    assert columns.audio == [_, _, _, _, _, _, 30, 31, 32, END]


def test_text_may_end_in_the_step_that_ends_the_audio_and_no_later() -> None:
    assert STREAMS.pack([1] * 7, [4]) == [1, 1, 1, 1, 1, 1, 1, 34, EOS, END]
    with pytest.raises(LayoutError, match="too short for its text: 1 speech tokens for 8 text tokens"):
        STREAMS.pack([1] * 8, [4])
    with pytest.raises(LayoutError, match="no code 10"):
        STREAMS.pack([1], [10])


def test_what_is_drawn_in_part_is_read_in_whole_steps() -> None:
    columns = STREAMS.columns([1, 2, 3, 4, 5, 6, 7, 30, 8])
    assert columns.text == [1, 2, 3, 4, 5, 6, 7, 8]
    assert columns.audio == [_, _, _, _, _, _, 30, _]
    assert STREAMS.columns([1, 2]).audio == [_, _]


@pytest.mark.parametrize(
    ("completion", "so_far", "whole"),
    [
        ([1, 2, EOS, 30, 31, END], True, True),
        ([1, 2, EOS, 30, 31, ENDS.media_end], True, True),
        ([1, 2, 3, 4, 5, 6, 7, 30, EOS, END], True, True),
        ([1, 2, 3, 4, 5, 6, EOS, 30, END], True, True),
        ([1, 2, 3, 4, 5, 6, 7, 30, 8, 31], True, False),
        ([1, 2, EOS, 30], True, False),
        ([], True, False),
        ([EOS, 30, END], False, False),  # nothing was written
        ([1, EOS, END], False, False),  # nothing was said
        ([1, 2, 3, 4, 5, 6, EOS, END], False, False),
        ([1, 2, 30, EOS], False, False),  # audio before its time
        ([1, 2, 3, 4, 5, 6, 7, 8], False, False),  # a step without its audio
        ([1, 2, 3, 4, 5, 6, 7, 30, 31], False, False),  # a step without its text
        ([1, 2, 3, 4, 5, 6, 7, END], False, False),  # the audio would end before the text
        ([1, 2, EOS, 30, END, 31], False, False),
        ([1, _, EOS, 30, END], False, False),  # a blank is never drawn
    ],
)
def test_what_may_follow_what(completion: list[int], so_far: bool, whole: bool) -> None:
    grammar = grammar_of(STREAMS)
    for wanted, complete in ((so_far, False), (whole, True)):
        if wanted:
            grammar.check(completion, complete)
        else:
            with pytest.raises(LayoutError):
                grammar.check(completion, complete)


def test_blanks_and_marks_are_format() -> None:
    assert WORDS.channel_of([1, 30, _, EOS, END, ENDS.media_end, ENDS.user]).tolist() == [
        Channel.TEXT, Channel.SPEECH, *[Channel.FORMAT] * 5,
    ]  # fmt: skip


# Prompts


def _ids(*names: str) -> list[int]:
    return [256 + NAMES.index(MARKS[name]) for name in names]


def test_what_is_typed_stands_in_the_text_stream(base: Any) -> None:
    prompt = base.encode_prompt(TYPED, 10)
    assert audio_of(prompt) == _ids("user", "blank", "blank", "msg_end", "assistant")
    assert text_of(prompt) == [*_ids("blank"), *b"hi", *_ids("blank", "blank")]


def test_what_is_said_stands_in_the_audio_stream_with_its_features(base: Any) -> None:
    prompt = base.encode_prompt(SPOKEN, 10)
    codes = [OFFSET + code for code in base.codec.encode(SPOKEN.turns[0].speech)]
    begin, end = _ids("user", "media_begin"), _ids("media_end", "speak", "msg_end", "assistant")
    assert audio_of(prompt) == [*begin, *codes, *end]
    assert set(text_of(prompt)) == set(_ids("blank"))
    ((start, recording),) = prompt.heard
    assert start == 2
    assert recording.features.shape == (len(codes), 32)


def test_an_earlier_reply_stands_in_both_streams(base: Any) -> None:
    said = base.streams.pack(list(b"ok"), [3, 4])
    dialogue = TYPED.plus(Turn("assistant", text="ok", tokens=tuple(said))).plus(TYPED.turns[0])
    prompt = base.encode_prompt(dialogue, 10)
    start = len(base.encode_prompt(TYPED, 10)) // 2 - 1
    blank = _ids("blank")
    assert audio_of(prompt)[start : start + 10] == [
        *_ids("assistant"), *blank * DELAY, OFFSET + 3, OFFSET + 4, *_ids("msg_end"),
    ]  # fmt: skip
    assert text_of(prompt)[start : start + 10] == [*blank, *b"ok", *blank * 7]


def test_an_earlier_reply_without_speech_ends_its_text(base: Any) -> None:
    prompt = base.encode_prompt(TYPED.plus(Turn("assistant", text="ok")).plus(TYPED.turns[0]), 10)
    start = len(base.encode_prompt(TYPED, 10)) // 2 - 1
    assert audio_of(prompt)[start : start + 5] == _ids("assistant", "blank", "blank", "blank", "msg_end")
    assert text_of(prompt)[start : start + 5] == [*_ids("blank"), *b"ok", *_ids("text_end", "blank")]


def test_a_recording_counts_by_where_it_stands_and_by_what_it_is(base: Any) -> None:
    same, other = Dialogue((Turn("user", speech=hum(0.9)),)), Dialogue((Turn("user", speech=hum(0.9, 150.01)),))
    assert base.encode_prompt(SPOKEN, 10) == base.encode_prompt(same, 10)
    assert base.encode_prompt(SPOKEN, 10) != base.encode_prompt(other, 10)
    with pytest.raises(GenerationError, match="takes in about"):
        base.encode_prompt(Dialogue((Turn("user", speech=hum(30.0)),)), 10)


# The model


def _whole_forward(base: Any, prompt: Any, audio: list[int], text: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (L, V) of audio and text by the checkpoint's own forward from ids, without a cache."""
    audio, text = audio_of(prompt) + audio, text_of(prompt) + text
    continuous = torch.zeros(1, len(audio), dtype=torch.bool)
    features = None
    for start, recording in prompt.heard:
        continuous[0, start : start + len(recording.ids)] = True
        features = [torch.from_numpy(recording.features)[None]]
    with torch.no_grad():
        audio_logits, text_logits = base.full(
            input_ids=torch.tensor([audio]),
            text_input_ids=torch.tensor([text]),
            whisper_input_feature=features,
            is_continuous_mask=continuous,
            position_ids=torch.arange(len(audio))[None],
            use_cache=False,
            return_dict=False,
        )
    return audio_logits[0], text_logits[0]


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_replies_are_those_of_the_familys_own_loop(base: Any, dialogue: Dialogue) -> None:
    """Both heads in every step, a blank where the delay or the end of the text says so, until the audio's end."""
    prompt, marks, tokens = base.encode_prompt(dialogue, 10), base.streams.marks, base.tokens
    words, speech = torch.from_numpy(tokens.is_text), torch.arange(tokens.vocabulary_size) >= OFFSET
    audio: list[int] = []
    text: list[int] = []
    drawn: list[int] = []
    over = False
    for step in range(40):
        audio_logits, text_logits = (logits[-1] for logits in _whole_forward(base, prompt, audio, text))
        allowed = words.clone()
        allowed[marks.text_end] = step > 0
        word = marks.blank if over else int(text_logits.masked_fill(~allowed, -torch.inf).argmax())
        drawn += [] if over else [word]
        over |= word == marks.text_end
        allowed = speech.clone()
        allowed[list(marks.ends)] = over and any(token >= OFFSET for token in audio)
        code = marks.blank if step < DELAY else int(audio_logits.masked_fill(~allowed, -torch.inf).argmax())
        drawn += [] if step < DELAY else [code]
        audio, text = [*audio, code], [*text, word]
        if code in marks.ends:
            break
    sampling = Sampling(0.0, max_tokens=len(drawn), max_seconds=100.0)
    ((rollout,),) = base.policy({"base": None}).sample_groups([prompt], 1, sampling)
    assert list(rollout.tokens) == drawn
    assert any(token >= OFFSET for token in drawn)


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_each_token_is_scored_by_its_own_head_at_the_step_before(base: Any, dialogue: Dialogue) -> None:
    prompt = base.encode_prompt(dialogue, 10)
    completion = base.encode_target("seven", [1, 2, 3, 4])
    columns = base.streams.columns(completion)
    audio_logits, text_logits = _whole_forward(base, prompt, columns.audio, columns.text)
    before = len(prompt) // 2 - 1
    wanted = [text_logits[before + k].log_softmax(-1)[token] for k, token in enumerate([*b"seven"])]
    wanted.append(text_logits[before + 5].log_softmax(-1)[base.streams.marks.text_end])
    for j, token in enumerate([OFFSET + 1, OFFSET + 2, OFFSET + 3, OFFSET + 4, base.streams.marks.msg_end]):
        wanted.append(audio_logits[before + DELAY + j].log_softmax(-1)[token])
    with torch.no_grad():
        scores = base.policy({"base": None}).score([prompt], [completion])
    assert scores.logprobs[0].numpy() == pytest.approx(torch.stack(wanted).numpy(), abs=1e-4)


def test_every_weight_is_used_inside_the_networks_forward(base: Any) -> None:
    """Where processes share out the weights, they are together there alone."""
    inside: list[bool] = []
    used: list[bool] = []
    hooks = [
        base.network.register_forward_pre_hook(lambda *_: inside.append(True)),
        base.network.register_forward_hook(lambda *_: inside.pop() and None),
    ]
    hooks += [
        module.register_forward_pre_hook(lambda *_: used.append(bool(inside)))
        for module in base.network.modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    model, prompt = base.policy({"base": None}), base.encode_prompt(SPOKEN, 10)
    try:
        ((rollout,),) = model.sample_groups([prompt], 1, Sampling(0.9, max_tokens=12))
        model.score([prompt], [rollout.tokens])
    finally:
        for hook in hooks:
            hook.remove()
    assert used
    assert all(used)


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_every_weight_has_a_gradient_whatever_is_scored(folder: Path, dialogue: Dialogue) -> None:
    """Data parallelism waits for each of them; one that was not used has zeros."""
    base = kimi_loading.load_base("tiny-base", folder, trust_remote_code=True)
    base.unfreeze()
    prompt, completion = base.encode_prompt(dialogue, 10), base.encode_target("one", [1, 2])
    base.score_rows(base.model, [SharedRow(prompt, [Scored(completion, [0, 1])])], False).logprobs.sum().backward()
    gradients = {name: weight.grad for name, weight in base.network.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    heard = [bool(gradient.any()) for name, gradient in gradients.items() if "vq_adaptor" in name]
    assert any(heard) == (dialogue is SPOKEN)
    only_of_speech = [gradient for name, gradient in gradients.items() if "mimo_" in name]
    assert not any(gradient.any() for gradient in only_of_speech)  # only words were asked for


def test_rows_whose_texts_end_at_different_steps_are_what_they_are_alone(base: Any) -> None:
    model = base.policy({"base": None})
    sampling = Sampling(1.0, max_tokens=60, max_seconds=100.0, seed=3)
    prompts = [base.encode_prompt(Dialogue((Turn("user", text="a" * size),)), 10) for size in (1, 9, 4)]
    together = [group[0] for group in model.sample_groups(prompts, 1, sampling)]
    texts = {len(base.streams.split(rollout.tokens)[0]) for rollout in together}
    assert len(texts) > 1
    for number, rollout in enumerate(together):
        ((alone,),) = model.sample_groups([prompts[number]], 1, sampling, first=number)
        assert alone.tokens == rollout.tokens
        assert alone.logprobs == pytest.approx(rollout.logprobs, abs=1e-4)


def test_without_a_description_text_is_greedy_and_speech_is_not(folder: Path, tmp_path: Path) -> None:
    sampling = kimi_loading.default_sampling(tmp_path)
    assert (sampling.temperature, sampling.speech_temperature, sampling.top_k) == (0.0, 0.8, 10)
    assert kimi_loading.default_sampling(folder).temperature == 0.8


def test_targets_in_codes_that_are_no_reply_are_refused(base: Any) -> None:
    with pytest.raises(GenerationError, match=f"no code {CODES}"):
        base.encode_target("one", [CODES])
    with pytest.raises(GenerationError, match="at least one text token"):
        base.encode_target("", [1])
