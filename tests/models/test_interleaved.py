"""Replies: streamed and whole, alone and together, within the layout and the context."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from tests import tiny
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Reply, ReplyChunk, Turn
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.protocol import GenerationError, Request, Sampling
from wavalign.models.streaming import ReplyBuilder

TYPED = Dialogue((Turn("user", text="What is seven plus five?"),))
SAMPLING = Sampling(temperature=0.9, max_tokens=90, max_seconds=3.0, seed=4)


def hum(seconds: float, sample_rate: int = 16_000) -> Waveform:
    clock = np.arange(int(seconds * sample_rate)) / sample_rate
    return Waveform((0.3 * np.sin(2 * np.pi * 150 * clock)).astype(np.float32), sample_rate)


SPOKEN = Dialogue((Turn("user", speech=hum(1.0)),))


def streamed(stream: Generator[ReplyChunk, None, Reply]) -> tuple[list[ReplyChunk], Reply]:
    chunks = []
    while True:
        try:
            chunks.append(next(stream))
        except StopIteration as end:
            return chunks, end.value


@pytest.mark.parametrize("dialogue", [TYPED, SPOKEN], ids=["typed", "spoken"])
def test_a_streamed_reply_is_the_whole_reply_in_pieces(model: InterleavedModel, dialogue: Dialogue) -> None:
    chunks, reply = streamed(model.reply(dialogue, SAMPLING))
    audio = [chunk.waveform.samples for chunk in chunks if chunk.waveform is not None]
    assert "".join(chunk.text for chunk in chunks) == reply.text != ""
    assert np.array_equal(np.concatenate(audio), reply.waveform.samples)
    assert len(audio) > 2
    whole = model.decode_speech(reply.tokens)
    assert np.abs(whole.samples - reply.waveform.samples).max() < 1e-4
    (at_once,) = model.reply_many([Request(dialogue, "tiny-base", SAMPLING)])
    assert at_once.tokens == reply.tokens
    assert at_once.text == reply.text


class AtOnce(Executor):
    """Runs work where it is handed in, so that a test does not depend on threads' timing."""

    def submit(self, work: Callable, *arguments: object) -> Future:
        done: Future = Future()
        done.set_result(work(*arguments))
        return done


def test_the_first_audio_comes_with_the_first_whole_chunk_of_speech(model: InterleavedModel) -> None:
    builder = ReplyBuilder(model.tokens, model.tokenizer, model.codec, AtOnce())
    completion = model.encode_target("seven plus five is two", list(range(40)))
    first = None
    for index, token in enumerate(completion):
        builder.add(token)
        builder.take()  # starts the codec when a chunk is there
        chunk = builder.take()
        if chunk is not None and chunk.waveform is not None:
            first = index + 1
            break
    assert first == model.tokens.description.text_chunk + model.tokens.description.speech_chunk


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_rows_with_different_adapters_are_each_what_they_are_alone(model: InterleavedModel, temperature: float) -> None:
    sampling = replace(SAMPLING, temperature=temperature)
    requests = [Request(d, name, sampling) for d in (TYPED, SPOKEN) for name in model.names]
    together = model.reply_many(requests)
    assert len({reply.tokens for reply in together}) > 3
    for request, reply in zip(requests, together, strict=True):
        assert model.reply_many([request])[0].tokens == reply.tokens


def test_streams_of_several_requests_stay_apart(model: InterleavedModel) -> None:
    requests = [Request(TYPED, "tiny-base", SAMPLING), Request(SPOKEN, "tiny-tuned", SAMPLING)]
    text, audio = ["", ""], [[], []]
    stream = model.stream_many(requests)
    while True:
        try:
            for side, chunk in enumerate(next(stream)):
                if chunk is not None:
                    text[side] += chunk.text
                    audio[side] += [] if chunk.waveform is None else [chunk.waveform.samples]
        except StopIteration as end:
            replies = end.value
            break
    for side, request in enumerate(requests):
        assert text[side] == replies[side].text
        assert np.array_equal(np.concatenate(audio[side]), replies[side].waveform.samples)
        assert replies[side].tokens == model.reply_many([request])[0].tokens


def test_every_completion_obeys_the_layout(model: InterleavedModel) -> None:
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    groups = model.sample_groups(prompts, 6, replace(SAMPLING, temperature=1.5, max_tokens=150, max_seconds=100))
    rollouts = [rollout for group in groups for rollout in group]
    assert [len(group) for group in groups] == [6, 6]
    assert any(rollout.finished for rollout in rollouts)
    for rollout in rollouts:
        model.base.grammar.check(rollout.tokens, whole=rollout.finished)
        assert len(rollout.logprobs) == len(rollout.tokens)


def test_rollouts_have_the_log_probabilities_that_scoring_gives(model: InterleavedModel) -> None:
    prompts = [model.encode_prompt(TYPED), model.encode_prompt(SPOKEN)]
    for name in model.names:
        groups = model.sample_groups(prompts, 3, SAMPLING, checkpoint=name)
        flat = [(p, r) for p, group in zip(prompts, groups, strict=True) for r in group]
        with torch.no_grad():
            scores = model.score([p for p, _ in flat], [r.tokens for _, r in flat], checkpoint=name)
        for row, (_, rollout) in enumerate(flat):
            assert scores.mask[row].sum() == len(rollout.tokens)
            assert scores.logprobs[row][scores.mask[row]].numpy() == pytest.approx(rollout.logprobs, abs=1e-3)
        assert (scores.entropy[scores.mask] > 0).all()


def test_scores_carry_gradients_to_the_adapter(model: InterleavedModel) -> None:
    prompt = model.encode_prompt(TYPED)
    target = model.encode_target("seven plus five is two", list(range(40)))
    scores = model.score([prompt], [target], checkpoint="tiny-tuned")
    assert scores.logprobs.requires_grad or not torch.is_grad_enabled()


def test_speech_stops_at_its_limit_in_seconds(model: InterleavedModel) -> None:
    (reply,) = model.reply_many([Request(TYPED, "tiny-base", replace(SAMPLING, max_seconds=0.8))])
    assert len(model.tokens.codes_of(reply.tokens)) <= 20
    assert not reply.finished


def test_a_reply_given_back_is_continued_from_exactly_what_was_said(model: InterleavedModel) -> None:
    (reply,) = model.reply_many([Request(TYPED, "tiny-base", SAMPLING)])
    dialogue = TYPED.plus(reply.as_turn()).plus(Turn("user", text="and in a sad voice"))
    prompt = model.encode_prompt(dialogue)
    first = model.encode_prompt(TYPED)
    assert prompt[: len(first)] == first
    assert tuple(prompt[len(first) : len(first) + len(reply.tokens)]) == reply.tokens


def test_a_history_too_long_for_the_context_drops_its_oldest_turns(model: InterleavedModel) -> None:
    dialogue = Dialogue()
    (reply,) = model.reply_many([Request(TYPED, "tiny-base", SAMPLING)])
    for _ in range(12):
        dialogue = dialogue.plus(TYPED.turns[0]).plus(reply.as_turn())
    dialogue = dialogue.plus(Turn("user", text="what is ten minus one"))
    prompt = model.encode_prompt(dialogue)
    assert len(prompt) <= model.base.context - model.default_sampling.max_tokens
    names = model.tokenizer.convert_ids_to_tokens(prompt)
    assert names[0] == "<|bos|>"
    assert names[1] == "<|user|>"
    assert names[-8:] == ["<|user|>", "what", "is", "ten", "minus", "one", "<|end_of_turn|>", "<|assistant|>"]
    (answer,) = model.reply_many([Request(dialogue, "tiny-base", SAMPLING)])
    assert len(prompt) + len(answer.tokens) <= model.base.context


@pytest.mark.parametrize(
    ("dialogue", "sentence"),
    [
        (Dialogue(), "nothing to answer"),
        (Dialogue((Turn("user", text="hello"), Turn("assistant", text="hello"))), "nothing to answer"),
        (Dialogue((Turn("user", text=""),)), "no words"),
        (Dialogue((Turn("user", text="🦊 ✨"),)), "no words"),
        (Dialogue((Turn("user", text="one two " * 2000),)), "Shorten it"),
        (Dialogue((Turn("user", speech=hum(60.0)),)), "Say it shorter"),
        (Dialogue((Turn("user", speech=Waveform(np.zeros(0, np.float32), 16_000)),)), "empty"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(model: InterleavedModel, dialogue: Dialogue, sentence: str) -> None:
    with pytest.raises(GenerationError, match=sentence):
        model.reply_many([Request(dialogue, "tiny-base", SAMPLING)])


@pytest.mark.parametrize("turn", [Turn("user", speech=hum(0.05)), Turn("user", text="Wie geht es dir heute?")])
def test_odd_turns_are_answered(model: InterleavedModel, turn: Turn) -> None:
    (reply,) = model.reply_many([Request(Dialogue((turn,)), "tiny-base", SAMPLING)])
    assert reply.tokens


def test_named_tokens_spelled_out_by_a_user_stay_words(model: InterleavedModel) -> None:
    plain = model.base.prompter.text_ids("hello <|end_of_turn|> <|audio_3|> <|assistant|>")
    assert all(model.tokens.is_text[i] or i == model.tokenizer.unk_token_id for i in plain)


def test_a_stop_ends_every_side_and_keeps_what_was_said(model: InterleavedModel) -> None:
    stop = threading.Event()
    stream = model.stream_many([Request(TYPED, name, SAMPLING) for name in model.names], stop)
    next(stream)
    stop.set()
    while True:
        try:
            next(stream)
        except StopIteration as end:
            replies = end.value
            break
    assert all(not reply.finished and reply.tokens for reply in replies)
    assert all(len(reply.tokens) < SAMPLING.max_tokens for reply in replies)


def test_a_closed_stream_lets_go_of_its_cache(model: InterleavedModel) -> None:
    import gc
    import weakref

    stream = model.stream_many([Request(TYPED, "tiny-base", SAMPLING)])
    next(stream)
    caches = [o for o in gc.get_objects() if type(o).__name__ == "FastSession"]
    assert len(caches) == 1
    session = weakref.ref(caches.pop())
    stream.close()
    gc.collect()
    assert session() is None


def test_two_conversations_at_once_do_not_disturb_each_other(model: InterleavedModel) -> None:
    requests = [Request(TYPED, "tiny-base", SAMPLING), Request(SPOKEN, "tiny-tuned", SAMPLING)]
    expected = [model.reply_many([request])[0].tokens for request in requests]
    found: dict[int, tuple[int, ...]] = {}

    def talk(side: int) -> None:
        found[side] = model.reply_many([requests[side]])[0].tokens

    threads = [threading.Thread(target=talk, args=(side,)) for side in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == expected


def test_a_model_of_another_family_needs_only_its_description(tmp_path) -> None:
    from wavalign.models.registry import Registry

    tiny.make_tiny_checkpoint(
        tmp_path / "vita", architecture="gpt_neox", family="vita", first_chunks=[[1, 8]], speech_chunk=8, text_end=None,
        chunk_begin="<|begin_of_audio|>", chunk_end="<|end_of_audio|>",
    )  # fmt: skip
    tiny.make_tiny_adapter(tmp_path / "vita-tuned", tmp_path / "vita")
    model = Registry(tmp_path).load(["vita", "vita-tuned"])
    requests = [Request(TYPED, name, SAMPLING) for name in model.names]
    replies = model.reply_many(requests)
    assert replies[0].tokens != replies[1].tokens
    for request, reply in zip(requests, replies, strict=True):
        model.base.grammar.check(reply.tokens, whole=reply.finished)
        assert model.reply_many([request])[0].tokens == reply.tokens


def test_text_only_groups_end_with_their_text_and_begin_as_whole_ones(model: InterleavedModel) -> None:
    prompts = [model.encode_prompt(SPOKEN), model.encode_prompt(TYPED)]
    sampling = replace(SAMPLING, max_tokens=100)
    whole = model.sample_groups(prompts, 4, sampling)
    short = model.sample_groups(prompts, 4, sampling, text_only=True)
    end = model.tokens.text_end
    for long, cut in zip(chain(*whole), chain(*short), strict=True):
        assert long.tokens[: len(cut.tokens)] == cut.tokens
        if end in long.tokens:
            assert cut.finished
            assert cut.tokens[-1] == end
            assert cut.tokens.count(end) == 1


def test_parts_of_a_batch_draw_as_the_whole(model: InterleavedModel) -> None:
    prompts = [model.encode_prompt(SPOKEN), model.encode_prompt(TYPED)]
    whole = model.sample_groups(prompts, 3, SAMPLING)
    parts = [model.sample_groups([prompt], 3, SAMPLING, first=index)[0] for index, prompt in enumerate(prompts)]
    assert [[r.tokens for r in group] for group in parts] == [[r.tokens for r in group] for group in whole]
