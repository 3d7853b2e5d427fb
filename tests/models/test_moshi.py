"""Moshi: the numbers of transformers' own ``generate`` and of Mimi, words and silence, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MoshiForConditionalGeneration

from evaluation.speed_gpu_rows import hum
from tests.models import tiny_moshi
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Turn
from wavalign.models import attention, moshi_network
from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.memory_estimate import estimate_folder
from wavalign.models.moshi_depth import stacked
from wavalign.models.moshi_loading import load_base
from wavalign.models.protocol import Channel, CheckpointError, GenerationError, Request
from wavalign.models.registry import Registry
from wavalign.models.registry_bases import footprint
from wavalign.models.registry_layouts import layout_at
from wavalign.models.shared_rows import Scored, SharedRow

TYPED = Dialogue((Turn("user", text="What is seven plus five?"),))
SPOKEN = Dialogue((Turn("user", speech=hum(0.7)),))


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moshi")
    base = tiny_moshi.make_tiny_moshi(folder / "moshi")
    tiny_moshi.make_tiny_moshi_adapter(folder / "tuned", base)
    return folder


@pytest.fixture(scope="module")
def model(assets: Path) -> Any:
    return Registry(assets).load(["moshi", "tuned"])


@pytest.fixture(scope="module")
def original(assets: Path) -> Any:
    return MoshiForConditionalGeneration.from_pretrained(str(assets / "moshi"))


@pytest.fixture(scope="module")
def greedy(model: Any) -> Any:
    return replace(model.default_sampling, temperature=0.0, speech_temperature=0.0, max_seconds=1.0)


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_greedy_words_and_codes_are_those_of_generate(
    model: Any, original: Any, greedy: Any, dialogue: Dialogue
) -> None:
    ids = model.base.ids
    (reply,) = model.reply_many([Request(dialogue, "moshi", greedy)])
    text, own = ids.said(reply.tokens, model.base.prompter.silence)
    frames = ids.frames(model.encode_prompt(dialogue))
    unsayable = [i for i in range(ids.text_size) if not model.tokens.is_text[i]]
    unsayable = [i for i in unsayable if i not in (ids.padding, ids.word_comes)]
    made = original.generate(
        input_ids=torch.from_numpy(frames.text)[None],
        moshi_audio_codes=torch.from_numpy(frames.own.T.copy())[None],
        user_audio_codes=torch.from_numpy(frames.user.T.copy())[None],
        attention_mask=torch.ones(1, len(frames), dtype=torch.long),
        max_new_tokens=len(text), do_sample=False, suppress_tokens=unsayable, depth_decoder_do_sample=False,
        return_audio_codes=True, return_audio_waveforms=False,
    )  # fmt: skip
    assert len(text) > 5
    assert made.sequences[0].tolist()[-len(text) :] == text.tolist()
    whole = len(ids.aligned(model.tokens.codes_of(reply.tokens))) // ids.books
    assert whole >= len(text) - 2  # the last frame has its semantic code alone, the end of a reply none
    assert made.audio_codes[0].T[len(frames) :][:whole].tolist() == own[:whole].tolist()


def test_teacher_forcing_gives_the_greedy_tokens_exactly(
    model: Any, greedy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every place the likeliest id, with those before it given, is the one that was drawn: words and all books."""
    prompt, tokens = model.encode_prompt(SPOKEN), model.tokens
    (rollout,) = model.sample_groups([prompt], 1, greedy, checkpoint="tuned")[0]
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def kept(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append((logits.detach(), targets))
        return chosen_logprobs(logits, targets)

    monkeypatch.setattr(moshi_network, "chosen_logprobs", kept)
    scores = model.score([prompt], [rollout.tokens], checkpoint="tuned")
    assert scores.logprobs[0].detach().numpy() == pytest.approx(rollout.logprobs, abs=1e-4)
    (text, words), (speech, codes) = calls
    assert len(words) + len(codes) == len(rollout.tokens)
    assert len(codes) == len(tokens.codes_of(rollout.tokens))
    said = tokens.is_text[: text.shape[1]].copy()
    said[[model.base.ids.padding, model.base.ids.word_comes]] = True
    assert torch.equal(text.masked_fill(~torch.from_numpy(said), -torch.inf).argmax(-1), words)
    assert torch.equal(speech.argmax(-1), codes)


def test_rows_that_end_at_different_steps_do_not_disturb_each_other(model: Any) -> None:
    sampling = replace(model.default_sampling, max_seconds=3.0, max_tokens=150)
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    groups = model.sample_groups(prompts, 5, sampling, checkpoint="tuned")
    rollouts = [rollout for group in groups for rollout in group]
    assert len({len(rollout.tokens) for rollout in rollouts}) > 2
    assert any(rollout.finished for rollout in rollouts)
    assert all(model.well_formed(rollout.tokens, whole=rollout.finished) for rollout in rollouts)
    for index, (prompt, group) in enumerate(zip(prompts, groups, strict=True)):
        (again,) = model.sample_groups([prompt], 5, sampling, checkpoint="tuned", first=index)
        assert [rollout.tokens for rollout in again] == [rollout.tokens for rollout in group]


def test_only_what_is_wanted_is_scored_and_in_order(model: Any) -> None:
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    groups = model.sample_groups(prompts, 2, model.default_sampling)
    rows, expected = [], []
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for prompt, group in zip(prompts, groups, strict=True):
            completions = []
            for rollout in group:
                some = np.sort(rng.permutation(len(rollout.tokens))[: len(rollout.tokens) // 2])
                completions.append(Scored(rollout.tokens, some))
                expected.append(rollout.logprobs[some])
            rows.append(SharedRow(prompt, completions))
        with model.base.model.disable_adapter():
            flat = model.base.score_rows(model.base.model, rows, False)
    assert flat.logprobs.numpy() == pytest.approx(np.concatenate(expected), abs=2e-3)


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


def test_a_recording_is_the_user_s_stream_and_silence_the_model_s(model: Any, original: Any) -> None:
    frames = model.base.ids.frames(model.encode_prompt(SPOKEN))
    samples = torch.from_numpy(SPOKEN.turns[0].speech.resampled(24_000).samples)[None, None]
    with torch.no_grad():
        heard = original.audio_encoder.encode(samples, num_quantizers=tiny_moshi.BOOKS).audio_codes[0].T
        quiet = torch.zeros(1, 1, len(heard) * 1920)
        silence = original.audio_encoder.encode(quiet, num_quantizers=tiny_moshi.BOOKS).audio_codes[0].T
    assert frames.user.tolist() == heard.tolist()
    assert frames.own.tolist() == silence.tolist()
    assert set(frames.text.tolist()) == {model.base.ids.padding}


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


# Mimi


def test_a_stream_of_sound_is_what_mimi_makes_of_the_whole(model: Any, original: Any) -> None:
    """40 frames are more than the decoder's attention looks back; pieces end inside frames."""
    codec, ids = model.base.mimi, model.base.ids
    frames = np.random.default_rng(0).integers(0, ids.codes, (40, ids.books))
    with torch.no_grad():
        whole = original.audio_encoder.decode(torch.from_numpy(frames.T.copy())[None]).audio_values.reshape(-1).numpy()
    assert codec.decode(codec.flat(frames)).samples == pytest.approx(whole, abs=1e-5)
    drawn = [i - ids.speech_start for i in ids.completion(np.full(41, ids.padding), frames)]
    drawn = [code for code in drawn if code >= 0]
    stream, given = model.codec.stream(), []
    for start in range(0, len(drawn), 7):
        given.append(stream.push(drawn[start : start + 7]))
    given.append(stream.finish())
    assert sum(len(samples) > 0 for samples in given) > 20
    heard = np.concatenate(given)
    assert len(heard) == 39 * codec.samples_per_frame  # the last frame has no acoustic codes
    assert heard == pytest.approx(whole[: len(heard)], abs=1e-5)


# Adapters and weights


def test_adapters_sit_on_exactly_the_named_modules(model: Any) -> None:
    targets = set(model.lora_targets())
    found = {path for path, module in model.network.named_modules() if "tuned" in getattr(module, "lora_A", {})}
    assert found == targets == set(model.base.model.peft_config["tuned"].target_modules)
    # Two layers of six modules, and two with six for each book.
    assert len(found) == 2 * 6 + 2 * 6 * tiny_moshi.BOOKS
    assert "decoder.model.layers.0.self_attn.q_proj.linear" in found
    assert "depth_decoder.layers.1.mlp.fc2.books.3" in found


def test_speech_moves_both_transformers_and_words_the_first(model: Any) -> None:
    prompt = model.encode_prompt(SPOKEN)
    target = model.encode_target("two", [book * tiny_moshi.CODES + 5 for _ in range(6) for book in range(4)])
    lora = {name: p.requires_grad_(True) for name, p in model.network.named_parameters() if "lora_B.tuned" in name}
    channels = torch.from_numpy(model.channel_of(target))
    moved = {}
    try:
        for channel in (Channel.TEXT, Channel.SPEECH):
            scores = model.score([prompt], [target], checkpoint="tuned")
            scores.logprobs[0, channels == channel].sum().backward()
            moved[channel] = {name.split(".")[0] for name, p in lora.items() if p.grad is not None and p.grad.any()}
            for parameter in lora.values():
                parameter.grad = None
    finally:
        for parameter in lora.values():
            parameter.requires_grad_(False)
    assert moved == {Channel.TEXT: {"decoder"}, Channel.SPEECH: {"decoder", "depth_decoder"}}


def test_unstacked_weights_are_saved_as_transformers_reads_them(model: Any, original: Any) -> None:
    mine = stacked(base_state(model))
    theirs = original.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def base_state(model: Any) -> dict[str, torch.Tensor]:
    """The base's own tensors, without what adapters put around them."""
    state = {}
    for name, tensor in model.base.full.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer.", ".")] = tensor
    return state


# What is refused


def _edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = json.loads((folder / file).read_text(encoding="utf-8"))
        (folder / file).write_text(json.dumps({**data, **changes}), encoding="utf-8")

    return edit


def _without_padding(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<pad>", "<nop>"), encoding="utf-8")


def _lacking_depth(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {key: tensor for key, tensor in tensors.items() if "lm_heads" not in key}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (_lacking_depth, "lacks 1 of its tensors"),
        (_without_padding, 'no token "<pad>"'),
        (_edited("config.json", audio_vocab_size=32), "does not fit its config.json"),
        (_edited("parallel_streams.json", pause_seconds=0), "pause_seconds must be"),
        (_edited("parallel_streams.json", speed=2), "must be an object with"),
        (_edited("parallel_streams.json", sampling={"temperature": -1}), "temperature must be"),
    ],
)
def test_a_broken_base_is_one_sentence(assets: Path, tmp_path: Path, change: Callable, sentence: str) -> None:
    folder = tmp_path / "checkpoints" / "broken"
    shutil.copytree(assets / "moshi", folder)
    change(folder)
    with pytest.raises(CheckpointError, match=rf"^[^\n]*broken[^\n]*{sentence}[^\n]*$"):
        Registry(tmp_path / "nothing", tmp_path).load(["broken"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("depth_decoder.layers.0", "audio_encoder.decoder_transformer.layers.0"),
        ("books.0", "books.7"),
        ("decoder.model.layers.0.self_attn.q_proj.linear", "decoder.lm_head"),
    ],
)
def test_adapters_whose_keys_do_not_match_are_refused(assets: Path, tmp_path: Path, old: str, new: str) -> None:
    folder = tmp_path / "checkpoints" / "foreign"
    shutil.copytree(assets / "tuned", folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({key.replace(old, new): tensor for key, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    registry = Registry(assets, tmp_path)
    with pytest.raises(CheckpointError, match=r"^[^\n]*foreign[^\n]*only the linear modules[^\n]*[.]$"):
        registry.load(["foreign"])
    assert "foreign" not in getattr(registry.load(["moshi"]).base.model, "peft_config", {})


def test_dtype_is_what_is_asked_for_and_mimi_stays_exact(assets: Path) -> None:
    base = load_base("moshi", assets / "moshi", torch.device("cpu"), torch.bfloat16)
    assert {p.dtype for p in base.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in base.mimi.mimi.parameters()} == {torch.float32}
    (reply,) = base.policy({"moshi": None}).reply_many([Request(SPOKEN, "moshi", base.sampling)])
    assert reply.tokens


def test_the_backbone_attends_as_the_host_asks_and_says_the_same(
    model: Any, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(attention.VARIABLE, "eager")
    base = load_base("moshi", assets / "moshi", torch.device("cpu"))
    assert base.full.decoder.config._attn_implementation == "eager"
    assert base.full.depth_decoder.config._attn_implementation == "sdpa"
    assert base.full.audio_encoder.config._attn_implementation == "sdpa"
    ((rollout,),) = model.sample_groups([model.encode_prompt(TYPED)], 1, replace(model.default_sampling, seed=1))
    rows = [model.encode_prompt(TYPED)], [rollout.tokens]
    with torch.no_grad():
        mine, theirs = (each.score(*rows, checkpoint="moshi") for each in (model, base.policy({"moshi": None})))
    assert theirs.logprobs.numpy() == pytest.approx(mine.logprobs.numpy(), abs=1e-3)


def test_what_it_takes_is_known_before_it_is_loaded(model: Any, assets: Path) -> None:
    told = estimate_folder(assets / "moshi")
    assert told.weights == pytest.approx(footprint(load_base("moshi", assets / "moshi")), rel=0.05)
    # Keys and values of 2 layers of width 64, 200 steps of two replies, and of the depth transformer's few.
    assert told.cache >= 2 * 2 * 64 * 200 * 2 * 4


def test_a_frozen_copy_stays_what_it_was(model: Any, assets: Path) -> None:
    base = load_base("moshi", assets / "moshi")
    copied = base.frozen_copy()
    assert not any(parameter.requires_grad for parameter in copied.network.parameters())
    prompt = model.encode_prompt(SPOKEN)
    (rollout,) = model.sample_groups([prompt], 1, replace(model.default_sampling, max_tokens=20))[0]
    with torch.no_grad():
        base.network.depth_decoder.lm_heads.books[0].weight.mul_(2)
        changed, kept = (each.policy({"moshi": None}).score([prompt], [rollout.tokens]) for each in (base, copied))
    assert kept.logprobs[0].numpy() == pytest.approx(rollout.logprobs, abs=1e-4)
    speech = model.channel_of(rollout.tokens) == Channel.SPEECH
    assert not np.allclose(changed.logprobs[0].numpy()[speech], rollout.logprobs[speech], atol=1e-3)


def test_the_layout_is_told_from_the_config_and_does_not_read(assets: Path) -> None:
    layout = layout_at("moshi", assets / "moshi")
    assert (layout.name, layout.reads, layout.runs_code) == ("parallel", False, False)
