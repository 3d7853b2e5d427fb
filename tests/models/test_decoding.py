"""The loop: each row as it would be alone, on either engine, on any architecture."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from tests import tiny
from wavalign.models.decoding import Completion, Row, decode
from wavalign.models.engine import Engine, engine_for
from wavalign.models.fast_llama import FastLlama
from wavalign.models.grammar import FreeGrammar
from wavalign.models.hf_engine import HfEngine
from wavalign.models.interleaved import InterleavedModel, finished
from wavalign.models.protocol import Sampling

VOCABULARY = 90
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [20, 21], [30, 31, 32, 33, 34]]
SAMPLED = Sampling(temperature=1.0, max_tokens=24)
GREEDY = Sampling(temperature=0, max_tokens=24)


def run(engine: Engine, rows: list[Row], end: tuple[int, ...] = (), **options: object) -> list[Completion]:
    return finished(decode(engine, FreeGrammar(VOCABULARY, end), rows, **options))


def mixed_rows() -> list[Row]:
    """Greedy, plain, filtered, guarded, of different lengths."""
    return [
        Row(PROMPTS[0], GREEDY),
        Row(PROMPTS[1], replace(SAMPLED, seed=1)),
        Row(PROMPTS[2], replace(SAMPLED, seed=2, top_p=0.8, top_k=12)),
        Row(PROMPTS[3], replace(SAMPLED, seed=3, repetition_window=8, repetition_penalty=1.5, max_tokens=9)),
        Row(PROMPTS[1], replace(GREEDY, max_tokens=17)),
    ]


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def small(request: pytest.FixtureRequest) -> torch.nn.Module:
    return tiny.make_model(VOCABULARY, request.param)


@pytest.mark.parametrize("kind", [FastLlama, HfEngine])
def test_a_row_is_what_it_would_be_alone(kind: type, small: torch.nn.Module) -> None:
    engine, rows = kind(small), mixed_rows()
    together = run(engine, rows, end=(3, 4))
    assert len({len(c.tokens) for c in together}) > 1
    for row, completion in zip(rows, together, strict=True):
        (alone,) = run(engine, [row], end=(3, 4))
        assert alone.tokens == completion.tokens
        assert alone.finished == completion.finished


@pytest.mark.parametrize("half", [False, True], ids=["float weights", "weights that halves represent"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_fast_engine_gives_the_logits_of_transformers(architecture: str, half: bool) -> None:
    model = tiny.make_model(VOCABULARY, architecture)
    if half:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.half().float())
    fast, slow = FastLlama(model), HfEngine(model)
    (a, first), (b, second) = (engine.start(PROMPTS, [None] * 4, 2, 8) for engine in (fast, slow))
    assert torch.allclose(first, second, atol=1e-4)
    for token in range(6):
        tokens = torch.arange(8) + token
        assert torch.allclose(a.step(tokens), b.step(tokens), atol=1e-4)
    kept = torch.tensor([0, 3, 4, 7])
    a.keep(kept)
    b.keep(kept)
    assert torch.allclose(a.step(kept), b.step(kept), atol=1e-4)


def test_both_engines_say_the_same(small: torch.nn.Module) -> None:
    assert FastLlama.fits(small)
    fast, slow = (run(kind(small), mixed_rows(), end=(3, 4)) for kind in (FastLlama, HfEngine))
    assert [c.tokens for c in fast] == [c.tokens for c in slow]


def test_greedy_is_what_generate_says(small: torch.nn.Module) -> None:
    ids = torch.tensor([PROMPTS[1]])
    settings = {"do_sample": False, "max_new_tokens": 24, "eos_token_id": None, "pad_token_id": 0}
    expected = small.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, ids.shape[1] :].tolist()
    (completion,) = run(engine_for(small), [Row(PROMPTS[1], GREEDY)])
    assert completion.tokens == expected


@pytest.mark.parametrize("architecture", ["gpt_neox", "gemma"])
def test_other_architectures_take_the_generic_engine(architecture: str) -> None:
    model = tiny.make_model(VOCABULARY, architecture)
    engine, rows = engine_for(model), mixed_rows()
    assert isinstance(engine, HfEngine)
    together = run(engine, rows)
    assert [c.tokens for c in together] == [run(engine, [row])[0].tokens for row in rows]


def test_many_rows_are_what_they_are_alone(small: torch.nn.Module) -> None:
    """Enough rows for the fast engine's other way of attending and for several groups of prompts."""
    engine = FastLlama(small)
    rows = [Row([5 + i % 60] * (3 + 7 * i % 50), replace(SAMPLED, seed=i, max_tokens=12)) for i in range(24)]
    together = run(engine, rows)
    for i in (0, 7, 23):
        assert together[i].tokens == run(engine, [rows[i]])[0].tokens


@pytest.mark.parametrize("kind", [FastLlama, HfEngine])
def test_samples_of_one_prompt_are_those_of_the_prompt_alone(kind: type, small: torch.nn.Module) -> None:
    engine = kind(small)
    rows = [Row(prompt, SAMPLED, stream=k) for prompt in PROMPTS for k in range(3)]
    together = run(engine, rows)
    assert len({tuple(c.tokens) for c in together[:3]}) == 3
    assert together[4].tokens == run(engine, [rows[4]])[0].tokens


@pytest.mark.parametrize("kind", [FastLlama, HfEngine])
def test_log_probabilities_are_those_of_a_teacher_forced_forward(kind: type, small: torch.nn.Module) -> None:
    rows = mixed_rows()
    for row, completion in zip(rows, run(kind(small), rows, logprobs=True), strict=True):
        ids = torch.tensor([[*row.prompt, *completion.tokens]])
        with torch.no_grad():
            expected = small(ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        chosen = expected.gather(-1, ids[0, len(row.prompt) :, None])[:, 0]
        assert torch.allclose(torch.tensor(completion.logprobs), chosen, atol=1e-4)


def test_each_row_s_end_is_told_in_its_last_step(small: torch.nn.Module) -> None:
    """Rows end at a mark, or at their limit of tokens; every row once, with its last token."""
    steps = decode(FastLlama(small), FreeGrammar(VOCABULARY, (3, 4)), mixed_rows())
    lengths, told = [0] * 5, {}
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            completions = end.value
            break
        for row in step.rows:
            lengths[row] += 1
        for row, itself in step.ended:
            assert row not in told
            told[row] = (lengths[row], itself)
    assert told == {row: (len(c.tokens), c.finished) for row, c in enumerate(completions)}


def test_a_stop_ends_the_loop_before_the_next_step(small: torch.nn.Module) -> None:
    stop = threading.Event()
    steps = decode(engine_for(small), FreeGrammar(VOCABULARY), [Row(PROMPTS[0], SAMPLED)], stop=stop)
    next(steps)
    next(steps)
    stop.set()
    with pytest.raises(StopIteration) as end:
        next(steps)
    (completion,) = end.value.value
    assert len(completion.tokens) == 2
    assert not completion.finished


def test_training_steps_are_seen_by_the_packed_weights() -> None:
    model = tiny.make_model(VOCABULARY)
    engine = FastLlama(model)
    before = run(engine, [Row(PROMPTS[0], GREEDY)])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.tensor([PROMPTS[1]]), labels=torch.tensor([PROMPTS[1]])).loss.backward()
    optimizer.step()
    after = run(engine, [Row(PROMPTS[0], GREEDY)])
    assert after[0].tokens == run(HfEngine(model), [Row(PROMPTS[0], GREEDY)])[0].tokens
    assert after[0].tokens != before[0].tokens


def test_no_rows_is_no_work(small: torch.nn.Module) -> None:
    assert run(engine_for(small), []) == []


def test_adapters_of_rows_are_the_weights_they_would_be_merged_into(model: InterleavedModel, assets) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    sampling = replace(SAMPLED, max_tokens=20)
    vocabulary = len(model.tokenizer)
    rows = [
        Row(prompt, replace(sampling, seed=seed, temperature=0 if seed % 2 else 1.0), adapter)
        for seed, (prompt, adapter) in enumerate(
            (prompt, adapter) for prompt in PROMPTS for adapter in ("tiny-tuned", None, "tiny-other")
        )
    ]
    grammar = FreeGrammar(vocabulary)
    fast = finished(decode(model.base.engine, grammar, rows, logprobs=True))
    slow = finished(decode(HfEngine(model.base.model), grammar, rows, logprobs=True))
    assert [c.tokens for c in fast] == [c.tokens for c in slow]
    for adapter in ("tiny-tuned", None, "tiny-other"):
        alone = AutoModelForCausalLM.from_pretrained(str(assets / "tiny-base")).eval()
        if adapter:
            alone = PeftModel.from_pretrained(alone, str(assets / adapter)).merge_and_unload()
        mine = [i for i, row in enumerate(rows) if row.adapter == adapter]
        expected = finished(
            decode(HfEngine(alone), grammar, [replace(rows[i], adapter=None) for i in mine], logprobs=True)
        )
        for i, completion in zip(mine, expected, strict=True):
            assert fast[i].tokens == completion.tokens
            assert fast[i].logprobs == pytest.approx(completion.logprobs, abs=1e-3)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_rows_that_share_prompts_are_what_they_would_be_alone_when_groups_thin_out(architecture: str) -> None:
    model = tiny.make_model(VOCABULARY, architecture)
    fast, slow = FastLlama(model), HfEngine(model)
    (a, _), (b, _) = (engine.start(PROMPTS, [None] * 4, 3, 12) for engine in (fast, slow))
    rows = 12
    for kept in (None, [0, 1, 2, 4, 6, 7, 9, 10, 11], [0, 2, 3, 6, 8], [1, 4]):
        if kept is not None:
            a.keep(torch.tensor(kept))
            b.keep(torch.tensor(kept))
            rows = len(kept)
        for token in (7, 19):
            tokens = torch.arange(rows) + token
            assert torch.allclose(a.step(tokens), b.step(tokens), atol=1e-4)
