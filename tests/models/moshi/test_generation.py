"""What Moshi hears, draws, scores and decodes is what transformers' ``generate`` and Mimi make, alone or in a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch

from tests.models import tiny_moshi
from tests.models.tiny_moshi import SPOKEN, TYPED
from wavalign.dialogue import Dialogue
from wavalign.models import moshi_network
from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.protocol import Request
from wavalign.models.shared_rows import Scored, SharedRow


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
