"""Completions that share their prompt's row score as they would alone, in numbers and in gradients."""

from __future__ import annotations

import pytest
import torch

from tests import tiny
from wavalign.models import scoring
from wavalign.models.engine import engine_for
from wavalign.models.fast_llama import FastLlama
from wavalign.models.logprobs import chosen_logprobs
from wavalign.models.shared_rows import Scored, SharedRow, packs, score_rows

VOCABULARY = 90
PROMPTS = [[5, 6, 7, 8, 9, 10], [20, 21]]
COMPLETIONS = [[[11, 12, 13], [14], [15, 16, 17, 18, 19, 20, 21]], [[22, 23], [24, 25, 26, 27]]]


def everything(completions: list[list[int]]) -> list[Scored]:
    return [Scored(tokens, range(len(tokens))) for tokens in completions]


ROWS = [SharedRow(prompt, everything(group)) for prompt, group in zip(PROMPTS, COMPLETIONS, strict=True)]
FLAT = [(prompt, tokens) for prompt, group in zip(PROMPTS, COMPLETIONS, strict=True) for tokens in group]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gemma"])
@pytest.mark.parametrize("packed", [True, False])
def test_shared_rows_score_as_plain_rows(architecture: str, packed: bool) -> None:
    model = tiny.make_model(VOCABULARY, architecture)
    plain = scoring.score(model, *zip(*FLAT, strict=True), None)
    shared = score_rows(model, model, ROWS, packed)
    assert torch.allclose(shared.logprobs, plain.logprobs[plain.mask], atol=1e-5)
    assert torch.allclose(shared.entropy, plain.entropy[plain.mask].detach(), atol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("padding", [1, 7, 40])
def test_padding_of_any_length_on_either_side_changes_no_score(packed: bool, padding: int) -> None:
    """Rows are padded at their right, up to the longest; the same tokens padded at their left are the check."""
    model = tiny.make_model(VOCABULARY)
    prompt, tokens = FLAT[0]
    row = SharedRow(prompt, everything([tokens]))
    longer = SharedRow([*prompt, *range(30, 30 + padding)], everything([tokens]))
    alone, beside = (score_rows(model, model, rows, packed).logprobs[: len(tokens)] for rows in ([row], [row, longer]))
    assert torch.allclose(beside, alone, atol=1e-5)
    ids = torch.tensor([[0] * padding + prompt + tokens])
    seen = torch.tensor([[0] * padding + [1] * (len(prompt) + len(tokens))])
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=seen, position_ids=positions).logits[0, -len(tokens) - 1 : -1]
    left = torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    assert torch.allclose(left, alone, atol=1e-5)


def test_gradients_are_those_of_plain_rows() -> None:
    model = tiny.make_model(VOCABULARY)
    gradients = []
    for packed in (True, False):
        model.zero_grad()
        score_rows(model, model, ROWS, packed).logprobs.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.allclose(*gradients, atol=2e-4)


def test_only_the_wanted_tokens_are_scored() -> None:
    model = tiny.make_model(VOCABULARY)
    whole = score_rows(model, model, ROWS, True).logprobs
    some = [SharedRow(PROMPTS[0], [Scored([11, 12, 13], [0, 2]), Scored([14], []), Scored(COMPLETIONS[0][2], [6])])]
    assert torch.allclose(score_rows(model, model, some, True).logprobs, whole[[0, 2, 10]], atol=1e-5)


def test_nothing_wanted_gives_nothing() -> None:
    model = tiny.make_model(VOCABULARY)
    assert score_rows(model, model, [SharedRow([5], [Scored([6, 7], [])])], True).logprobs.shape == (0,)


def test_a_network_that_cannot_pack_is_found_out() -> None:
    assert packs(tiny.make_model(VOCABULARY), VOCABULARY)
    windowed = tiny.make_model(VOCABULARY)
    windowed.forward = lambda input_ids, use_cache=None, **_: type(windowed).forward(windowed, input_ids=input_ids)
    assert not packs(windowed, VOCABULARY)


def test_chosen_logprobs_are_log_softmax_with_its_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3000, 700, requires_grad=True)
    targets, weights = torch.randint(0, 700, (3000,)), torch.randn(3000)
    reference = logits.log_softmax(-1)
    expected = torch.autograd.grad((reference[torch.arange(3000), targets] * weights).sum(), logits)[0]
    chosen, entropy = chosen_logprobs(logits, targets)
    assert torch.allclose(chosen, reference[torch.arange(3000), targets], atol=1e-5)
    assert torch.allclose(entropy, -(reference.exp() * reference).sum(-1), atol=1e-4)
    assert torch.allclose(torch.autograd.grad((chosen * weights).sum(), logits)[0], expected, atol=1e-5)


def test_a_token_whose_gradient_is_zero_leaves_its_logits_alone() -> None:
    logits = torch.randn(4, 9, requires_grad=True)
    chosen, _ = chosen_logprobs(logits, torch.tensor([1, 2, 3, 4]))
    (chosen * torch.tensor([1.0, 0.0, 0.0, 2.0])).sum().backward()
    assert (logits.grad[1:3] == 0).all()
    assert (logits.grad[[0, 3]] != 0).any()


@pytest.mark.parametrize("fused", [False, True])
def test_the_fast_engine_sees_the_weights_after_an_optimiser_step(fused: bool) -> None:
    model = tiny.make_model(VOCABULARY)
    engine = engine_for(model)
    assert isinstance(engine, FastLlama)
    _, before = engine.start(PROMPTS[:1], [None], 1, 4)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.05, fused=fused)
    model(torch.tensor(PROMPTS[:1])).logits.square().mean().backward()
    optimiser.step()
    if fused:
        engine.weights_changed(None)
    _, after = engine.start(PROMPTS[:1], [None], 1, 4)
    expected = model(torch.tensor(PROMPTS[:1])).logits[:, -1]
    assert not torch.allclose(before, after, atol=1e-2)
    assert torch.allclose(after, expected, atol=1e-4)
