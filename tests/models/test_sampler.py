"""Drawing tokens: the right distribution, the filters, the guard, and rows that do not see each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wavalign.models.grammar import FreeGrammar
from wavalign.models.protocol import Sampling, SamplingError
from wavalign.models.sampler import Sampler, uniform_numbers

CPU = torch.device("cpu")
ROWS = 6000


def draws(logits: torch.Tensor, sampling: Sampling, count: int) -> torch.Tensor:
    """``count`` rows of the same logits (V,) and settings, each with its own random numbers."""
    sampler = Sampler(FreeGrammar(len(logits)), [sampling] * count, range(count), CPU)
    none = np.zeros((count, 0), dtype=np.int64)
    return sampler.draw(logits.expand(count, -1), np.zeros(count, dtype=np.int64), 0, none)


def test_tokens_come_in_proportion_to_their_probability() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    tokens = draws(probabilities.log(), Sampling(temperature=1.0), ROWS)
    assert torch.bincount(tokens, minlength=4) / ROWS == pytest.approx(probabilities, abs=0.025)


def test_temperature_sharpens_as_the_formula_says() -> None:
    logits = torch.tensor([1.0, 0.5, 0.0])
    tokens = draws(logits, Sampling(temperature=0.5), ROWS)
    assert torch.bincount(tokens, minlength=3) / ROWS == pytest.approx(torch.softmax(logits / 0.5, -1), abs=0.025)


@pytest.mark.parametrize("settings", [{"top_p": 0.79}, {"top_k": 2}, {"top_k": 3, "top_p": 0.6}])
def test_what_a_filter_keeps_is_drawn_in_proportion(settings: dict) -> None:
    tokens = draws(torch.tensor([0.5, 0.3, 0.15, 0.05]).log(), Sampling(temperature=1.0, **settings), ROWS)
    shares = torch.bincount(tokens, minlength=4) / ROWS
    assert shares.tolist() == pytest.approx([0.625, 0.375, 0, 0], abs=0.025)


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_p": 0.79}, {0, 1}),  # .5 + .3 covers .79
        ({"top_p": 0.81}, {0, 1, 2}),
        ({"top_p": 0.2}, {0}),
        ({"top_k": 3, "top_p": 0.6}, {0, 1}),  # of the .95 that top-k kept, .53 is not yet .6
        ({"temperature": 0}, {0}),
    ],
)
def test_filters_keep_exactly_the_tokens_they_should(settings: dict, allowed: set[int]) -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    tokens = draws(logits, Sampling(**{"temperature": 1.0, **settings}), 3000)
    assert set(tokens.tolist()) == allowed


def test_top_p_over_a_flat_distribution_needs_more_than_the_first_candidates() -> None:
    size = 1000
    logits = -1e-4 * torch.arange(size)  # nearly flat, without ties: the first half is a little more than half
    tokens = set(draws(logits, Sampling(temperature=1.0, top_p=0.5), ROWS).tolist())
    assert len(tokens) > 450
    assert 480 < max(tokens) <= size // 2


def test_one_filtered_row_does_not_change_its_neighbours() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    settings = [Sampling(seed=1), Sampling(seed=2, top_p=0.5, top_k=7), Sampling(seed=3, temperature=0)]
    none, masks = np.zeros((3, 0), dtype=np.int64), np.zeros(3, dtype=np.int64)
    together = Sampler(FreeGrammar(50), settings, [0, 0, 0], CPU).draw(logits, masks, 0, none)
    for row, sampling in enumerate(settings):
        alone = Sampler(FreeGrammar(50), [sampling], [0], CPU).draw(logits[row : row + 1], masks[:1], 0, none[:1])
        assert alone.item() == together[row].item()


def test_the_repetition_guard_makes_recent_tokens_unlikely_and_forgets_old_ones() -> None:
    logits = torch.tensor([3.0, 2.9, -1.0])
    sampling = Sampling(temperature=0, repetition_window=2, repetition_penalty=2.0)
    sampler = Sampler(FreeGrammar(3), [sampling], [0], CPU)
    mask = np.zeros(1, dtype=np.int64)
    assert sampler.draw(logits[None], mask, 2, np.array([[2, 0]])).item() == 1  # 0 is recent
    assert sampler.draw(logits[None], mask, 3, np.array([[0, 2, 2]])).item() == 0  # 0 is forgotten


def test_random_numbers_depend_on_seed_and_stream_alone() -> None:
    assert np.array_equal(uniform_numbers(5, 0, 8), uniform_numbers(5, 0, 16)[:8])
    assert not np.array_equal(uniform_numbers(5, 0, 8), uniform_numbers(5, 1, 8))
    assert not np.array_equal(uniform_numbers(5, 0, 8), uniform_numbers(6, 0, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"speech_temperature": 11},
        {"top_k": -1},
        {"top_p": 0},
        {"top_p": 1.1},
        {"repetition_window": -1},
        {"repetition_penalty": 0.5},
        {"max_seconds": 0},
        {"max_tokens": 0},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_name_the_field(wrong: dict) -> None:
    with pytest.raises(SamplingError, match=next(iter(wrong))):
        Sampling(**wrong)
