"""Every objective against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from wavalign.training import objectives
from wavalign.training.objectives import Clip


def test_the_surrogate_is_clipped_only_where_that_lowers_the_gain():
    """rho = 1.5, 1.5, 0.5, 0.5, 1.1 with A = 1, -1, 1, -1, 2 and a clip of 0.2.

    min(1.5, 1.2) = 1.2; min(-1.5, -1.2) = -1.5; min(.5, .8) = .5; min(-.5, -.8) = -.8; min(2.2, 2.2) = 2.2.
    """
    log_ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1]).log()
    advantage = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    result = objectives.clipped_surrogate(log_ratio, advantage, Clip())
    assert result.loss.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8, -2.2])
    assert result.clipped.tolist() == [True, False, False, True, False]


def test_clip_higher_moves_only_the_upper_end():
    log_ratio = torch.tensor([1.26, 1.4, 0.7]).log()
    advantage = torch.tensor([1.0, 1.0, -1.0])
    result = objectives.clipped_surrogate(log_ratio, advantage, Clip(0.2, 0.28))
    assert result.loss.tolist() == pytest.approx([-1.26, -1.28, 0.8])


def test_on_the_first_update_the_ratio_is_one_and_the_gradient_is_that_of_log_p():
    logp = torch.tensor([-1.0, -3.0], requires_grad=True)
    advantage = torch.tensor([2.0, -1.0])
    loss = objectives.clipped_surrogate(objectives.token_log_ratio(logp, None), advantage, Clip()).loss
    assert loss.tolist() == [-2.0, 1.0]
    loss.sum().backward()
    assert logp.grad.tolist() == [-2.0, 1.0]


def test_a_sequence_has_one_ratio_the_geometric_mean_of_its_masked_tokens():
    """Row 0: log ratios .2 and .4, mean .3; its third token (.9) is masked out. Row 1: -.5 alone."""
    log_ratio = torch.tensor([0.2, 0.4, 0.9, -0.5], requires_grad=True)
    row, mask = torch.tensor([0, 0, 0, 1]), torch.tensor([True, True, False, True])
    means = objectives.sequence_log_ratio(log_ratio, row, mask)
    assert means.tolist() == pytest.approx([0.3, 0.3, 0.3, -0.5])
    means[0].backward()
    assert log_ratio.grad.tolist() == pytest.approx([0.5, 0.5, 0.0, 0.0])


def test_a_row_without_masked_tokens_has_a_ratio_of_one():
    means = objectives.sequence_log_ratio(torch.tensor([0.7]), torch.tensor([0]), torch.tensor([False]))
    assert means.tolist() == [0.0]


def test_k3():
    """d = ln 2: 2 - ln 2 - 1 = 0.306853; d = 0: 0; d = -ln 2: .5 + ln 2 - 1 = 0.193147."""
    logp = torch.tensor([-math.log(4), -1.0, -math.log(2)])
    reference = torch.tensor([-math.log(2), -1.0, -math.log(4)])
    assert objectives.k3(logp, reference).tolist() == pytest.approx([0.306853, 0.0, 0.193147], abs=1e-6)


def test_the_loss_of_a_demonstration_is_its_negative_log_likelihood():
    logp = torch.tensor([math.log(0.5), math.log(0.25)])
    weights = torch.tensor([0.5, 0.5])
    loss = objectives.weighted_sum(objectives.negative_log_likelihood(logp), weights)
    assert float(loss) == pytest.approx(1.5 * math.log(2))


def test_no_weighted_token_gives_exactly_zero_and_a_zero_gradient():
    logp = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss = objectives.weighted_sum(logp, torch.zeros(2))
    loss.backward()
    assert loss.item() == 0.0
    assert logp.grad.tolist() == [0.0, 0.0]


def test_a_token_without_weight_has_no_influence_even_when_it_is_infinite():
    values = torch.tensor([1.0, math.inf, math.nan], requires_grad=True)
    loss = objectives.weighted_sum(values, torch.tensor([2.0, 0.0, 0.0]))
    loss.backward()
    assert loss.item() == 2.0
    assert values.grad.tolist() == [2.0, 0.0, 0.0]


def test_dpo():
    """chosen -10 against -12 under the reference, rejected -11 against -10: delta = 2 - (-1) = 3.

    gamma .1: -log sigmoid(.3) = log(1 + exp(-.3)) = 0.554355.
    """
    result = objectives.dpo(*(torch.tensor([v]) for v in (-10.0, -11.0, -12.0, -10.0)), gamma=0.1)
    assert float(result.loss) == pytest.approx(0.554355, abs=1e-6)
    assert float(result.margin) == pytest.approx(0.3)


def test_at_the_reference_dpo_is_log_two():
    same = torch.tensor([-5.0])
    assert float(objectives.dpo(same, same, same, same, gamma=0.3).loss) == pytest.approx(math.log(2))


def test_dpo_on_one_channel_sums_that_channels_tokens_only():
    logp = torch.tensor([-1.0, -2.0, -4.0, -8.0])
    row = torch.tensor([0, 0, 1, 1])
    text = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert objectives.row_sums(logp, row, text, 2).tolist() == [-1.0, -4.0]
    assert objectives.row_sums(logp, row, torch.ones(4), 2).tolist() == [-3.0, -12.0]


def test_chord_weighs_by_p_times_one_minus_p():
    weights = objectives.chord_weight(torch.tensor([0.5, 0.9, 0.01]).log())
    assert weights.tolist() == pytest.approx([0.25, 0.09, 0.0099])
