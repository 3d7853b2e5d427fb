"""Kimi-Audio: which token stands in which step of its two streams, what the model reads, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch

from tests.models.layout_builders import hum
from tests.models.tiny_kimi import (
    CODES,
    DELAY,
    NAMES,
    OFFSET,
    make_checkout,
    make_published,
    make_tiny_kimi,
    make_tiny_kimi_adapter,
)
from wavalign.codecs.kimi_audio import CHECKOUT, KimiAudioCodec
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import kimi_loading, registry_code
from wavalign.models.kimi_prompting import audio_of, text_of
from wavalign.models.kimi_tokens import MARKS, Marks, Streams, grammar_of
from wavalign.models.layout import LayoutError
from wavalign.models.parallel_tokens import ParallelTokens, SpeechPieces
from wavalign.models.protocol import Channel, CheckpointError, GenerationError, Request, Sampling
from wavalign.models.registry import Registry
from wavalign.models.registry_adding import Wish, look
from wavalign.models.registry_layouts import layout_at

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


# What is refused


def _copied(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder.parent / "tiny-codec", tmp_path / "tiny-codec", dirs_exist_ok=True)
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def _changed(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (lambda at: shutil.rmtree(at / "whisper-large-v3"), "the Whisper encoder that Kimi-Audio hears through"),
        (lambda at: _changed(at / "config.json", kimia_token_offset=OFFSET + 8), r"has 56 speech tokens .* 64 codes"),
        (lambda at: _changed(at / "config.json", kimia_token_offset=300), "320 tokens, but from 300"),
        (lambda at: _changed(at / "config.json", kimia_media_end=5), r"<\|im_media_end\|> is token \d+ of its tok.* 5"),
        (lambda at: _changed(at / "config.json", kimia_adaptor_input_dim=33), "does not fit its config.json"),
        (lambda at: _changed(at / "config.json", kimia_mimo_audiodelaytokens=None), "lacks kimia_mimo_audiodelayt"),
        (lambda at: (at / "marks.model").write_text('["[PAD]"]'), r'has no token "<\|im_msg_end\|>"'),
        (lambda at: (at / "marks.model").unlink(), "marks.model is missing"),
        (lambda at: _changed(at / "kimi_audio.json", codec=3), "codec must be the path of a folder"),
        (lambda at: _changed(at / "kimi_audio.json", voice="x"), "must be an object with whisper, codec and sampling"),
        (lambda at: (at / "kimi_audio.json").unlink(), r"lacks audio_detokenizer/config\.yaml"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_one_sentence(
    folder: Path, tmp_path: Path, breaking: Any, words: str
) -> None:
    copied = _copied(folder, tmp_path)
    breaking(copied)
    with pytest.raises(CheckpointError, match=words) as caught:
        kimi_loading.load_base("copied", copied, trust_remote_code=True)
    assert "\n" not in str(caught.value)


def test_an_adapter_that_reaches_beyond_the_layers_is_refused(folder: Path, base: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    adapter = make_tiny_kimi_adapter(tmp_path / "far", folder)
    weights = load_file(adapter / "adapter_model.safetensors")
    assert {key.split(".")[3] for key in weights} == {"layers", "mimo_layers"}
    renamed = {key.replace("model.layers.0.mlp.up_proj", "lm_head"): tensor for key, tensor in weights.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r'"far" changes lm_head, and in "tiny-base" only'):
        kimi_loading.attach(base, "far", adapter)


# The host's choice


def test_the_page_tells_the_layout_and_asks_for_the_hosts_choice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRUST, raising=False)
    copied = _copied(folder, tmp_path)
    registry = Registry(tmp_path / "none", tmp_path)
    looked = look(registry, Wish(str(copied)))
    assert looked.layout == layout_at("copied", copied).name == "parallel"
    assert f"{TRUST}={copied}" in looked.warnings[0]
    with pytest.raises(CheckpointError, match=f"{TRUST}={copied}"):
        Registry(tmp_path).load(["copied"])
    monkeypatch.setenv(TRUST, str(copied))
    assert not look(registry, Wish(str(copied))).warnings


def test_the_estimate_counts_the_audios_layers_and_what_stands_beside(folder: Path) -> None:
    from wavalign.models.memory_estimate import cache_bytes, estimate_folder, stored_in

    told = estimate_folder(folder)
    files = (folder / "model.safetensors", folder / "whisper-large-v3" / "model.safetensors")
    beside = next((folder.parent / "tiny-codec").glob("*.safetensors"))
    assert told.weights == sum(stored_in(file).loaded(4) for file in (*files, beside))
    config = json.loads((folder / "config.json").read_text())
    assert told.cache == cache_bytes(config, 4) == 2 * (3 + 2) * 2 * 8 * 512 * 2 * 4  # layers, heads, size, context


def test_an_optimisers_state_in_the_detokenizers_file_is_not_counted(tmp_path: Path) -> None:
    from wavalign.models.memory_estimate import stored_in

    weights = {"speech_model.a": torch.zeros(10, 10), "speech_model.b": torch.zeros(7, dtype=torch.bfloat16)}
    torch.save({"state_dict": weights, "optimizer": {"moments": torch.zeros(10_000)}}, tmp_path / "model.pt")
    torch.save({"generator": weights}, tmp_path / "vocoder.pt")
    assert dict(stored_in(tmp_path / "model.pt").floats) == {4: 400, 2: 14}
    assert stored_in(tmp_path / "vocoder.pt").others == (tmp_path / "vocoder.pt").stat().st_size


def test_the_same_python_files_elsewhere_may_run_and_others_may_not(folder: Path, tmp_path: Path) -> None:
    environment = {TRUST: str(folder)}
    copied = _copied(folder, tmp_path)
    assert registry_code.may_run_code_in(folder, environment=environment)
    assert registry_code.may_run_code_in(copied, environment=environment)
    assert not registry_code.may_run_code_in(copied, environment={})
    with (copied / "tokenization_kimia.py").open("a") as file:
        file.write("\n")
    assert not registry_code.may_run_code_in(copied, environment=environment)


def test_code_that_is_borrowed_from_another_repository_may_not_run(folder: Path, tmp_path: Path) -> None:
    copied = _copied(folder, tmp_path)
    _changed(copied / "config.json", auto_map={"AutoConfig": "someone/else--configuration.Config"})
    assert not registry_code.may_run_code_in(copied, environment={TRUST: str(folder)})


# The published codec


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kimia_infer"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv(CHECKOUT.variable, str(make_checkout(tmp_path / "Kimi-Audio")))
    return make_published(tmp_path / "published")


def test_a_folder_as_published_hears_and_speaks_through_the_familys_codec(published: Path) -> None:
    base = kimi_loading.load_base("published", published, trust_remote_code=True)
    assert (base.codec.sample_rate, base.codec.tokens_per_second) == (24_000, 12.5)
    prompt = base.encode_prompt(SPOKEN, 10)
    ((_, recording),) = prompt.heard
    assert len(recording.ids) == len(recording.features) == 12  # 0.9 s are 11.25 steps
    model = base.policy({"published": None})
    reply = model.reply_many([Request(SPOKEN, "published", Sampling(0.9, max_tokens=60, max_seconds=4.0))])[0]
    assert len(reply.waveform.samples) == 1920 * len(model.tokens.codes_of(reply.tokens))
    told = base.description.placed()
    assert told["codec"] == {"type": "kimi_audio", "detokenizer": str(published)}


@pytest.mark.parametrize("size", [1, 30, 31, 60, 75])
def test_a_stream_gives_out_what_the_whole_is(published: Path, size: int) -> None:
    codec = KimiAudioCodec.from_parts({}, published, torch.device("cpu"))
    codes = [code % CODES for code in range(size)]
    whole = codec.decode(codes).samples
    stream = codec.stream()
    pieces = [stream.push(codes[start : start + 7]) for start in range(0, size, 7)]
    assert any(map(len, pieces)) == (size > 30)
    assert np.array_equal(np.concatenate([*pieces, stream.finish()]), whole)
    assert len(whole) == 1920 * size


def test_replies_that_are_spoken_at_the_same_time_do_not_hear_each_other(published: Path) -> None:
    codec = KimiAudioCodec.from_parts({}, published, torch.device("cpu"))
    said = [[code % CODES for code in range(70)], [code % CODES for code in range(70, 0, -1)]]
    both = [codec.stream(), codec.stream()]
    made: list[list[np.ndarray]] = [[], []]
    for start in range(0, 70, 10):
        for number, stream in enumerate(both):
            made[number].append(stream.push(said[number][start : start + 10]))
    for number, stream in enumerate(both):
        spoken = np.concatenate([*made[number], stream.finish()])
        assert np.array_equal(spoken, codec.decode(said[number]).samples)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("audio_detokenizer/model.pt", r"The detokenizer in .* lacks audio_detokenizer/model\.pt"),
        ("vocoder/config.json", r"lacks vocoder/config\.json"),
        ("glm-4-voice-tokenizer", "hf download THUDM/glm-4-voice-tokenizer"),
        ("checkout", "WAVALIGN_KIMI_AUDIO=FOLDER"),
    ],
)
def test_what_the_familys_codec_lacks_is_one_sentence(
    published: Path, gone: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    if gone == "checkout":
        monkeypatch.delenv(CHECKOUT.variable)
    elif (published / gone).is_dir():
        shutil.rmtree(published / gone)
    else:
        (published / gone).unlink()
    with pytest.raises(CheckpointError, match=words) as caught:
        kimi_loading.load_base("published", published, trust_remote_code=True)
    assert "\n" not in str(caught.value)


def test_targets_in_codes_that_are_no_reply_are_refused(base: Any) -> None:
    with pytest.raises(GenerationError, match=f"no code {CODES}"):
        base.encode_target("one", [CODES])
    with pytest.raises(GenerationError, match="at least one text token"):
        base.encode_target("", [1])
