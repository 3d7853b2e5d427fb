"""The policy-gradient losses and their gradients are TRL's, on random tensors."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from wavalign.training.batch import Flat
from wavalign.training.config import HybridMethod, PolicyGradient
from wavalign.training.hybrid import OBJECTIVES, Hybrid
from wavalign.training.mixing import FixedMix
from wavalign.training.plan import Plan, Scores
from wavalign.training.weights import row_weights

LENGTHS = [7, 3, 9, 1]
LONGEST = 9


@pytest.fixture(scope="module")
def theirs():
    reason = "TRL is the oracle of this test; it is in requirements-dev.txt"
    pytest.importorskip("trl", reason=reason)
    from trl import GRPOTrainer

    return GRPOTrainer._compute_loss


def random_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (len(LENGTHS), LONGEST)
    logp = -2 * torch.rand(shape, generator=generator)
    return {
        "logp": logp,
        "old": logp + 0.3 * torch.randn(shape, generator=generator),
        "reference": logp + 0.5 * torch.randn(shape, generator=generator),
        "mask": (torch.arange(LONGEST) < torch.tensor(LENGTHS)[:, None]).int(),
        "advantages": torch.randn(len(LENGTHS), generator=generator),
    }


def their_loss(compute, batch, objective: str, beta: float, old: bool) -> tuple[torch.Tensor, torch.Tensor]:
    logp = batch["logp"].clone().requires_grad_()
    clip = OBJECTIVES[objective].clip
    stand_in = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logp, torch.zeros_like(logp), None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="sequence" if objective == "gspo" else "token",
        beta=beta,
        loss_type="grpo" if objective == "gspo" else objective,
        epsilon_low=clip.low,
        epsilon_high=clip.high,
        max_completion_length=LONGEST,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        _metrics={"eval": defaultdict(list)},
    )
    empty = torch.zeros(len(LENGTHS), 0, dtype=torch.long)
    inputs = {
        "prompt_ids": empty,
        "prompt_mask": empty,
        "completion_ids": batch["mask"].long(),
        "completion_mask": batch["mask"],
        "advantages": batch["advantages"],
        "old_per_token_logps": batch["old"] if old else None,
        "ref_per_token_logps": batch["reference"],
        "num_items_in_batch": batch["mask"].sum(),
    }
    loss = compute(stand_in, None, inputs)
    loss.backward()
    return loss.detach(), logp.grad


def our_loss(batch, objective: str, beta: float, old: bool) -> tuple[torch.Tensor, torch.Tensor]:
    logp = batch["logp"].clone().requires_grad_()
    kept = batch["mask"].bool()
    config = HybridMethod(preference=PolicyGradient(objective=objective, kl_text=beta), mix=FixedMix(rl=1.0))
    method = Hybrid(config, None, group_size=len(LENGTHS), longest=LONGEST)
    weights = row_weights(batch["mask"].sum(1).numpy(), OBJECTIVES[objective].normalise, LONGEST)
    row = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    gain = torch.from_numpy(weights).float()[row]
    nothing = torch.zeros(len(row))
    flat = Flat(
        row=row,
        channel=torch.zeros(len(row), dtype=torch.int8),
        gain=gain,
        mix=torch.ones(len(row)),
        advantage=batch["advantages"][row],
        demonstration=nothing,
        divergence=beta * gain,
        compared=nothing,
        behaviour=nothing * torch.nan,
        target=nothing.bool(),
        side=torch.zeros(len(LENGTHS)),
    )
    scores = Scores(
        logp[kept], nothing, batch["old"][kept] if old else None, batch["reference"][kept] if beta else None
    )
    loss = method.loss(flat, scores, Plan([])).value
    loss.backward()
    return loss.detach(), logp.grad


@pytest.mark.parametrize("objective", ["grpo", "dr_grpo", "dapo", "gspo"])
@pytest.mark.parametrize("beta", [0.0, 0.04], ids=["without divergence", "with divergence"])
@pytest.mark.parametrize("old", [False, True], ids=["first update", "later update"])
def test_loss_and_gradient_are_trls(theirs, objective, beta, old) -> None:
    batch = random_batch()
    expected, gradient = their_loss(theirs, batch, objective, beta, old)
    value, slope = our_loss(batch, objective, beta, old)
    assert torch.allclose(value, expected, atol=1e-6)
    assert torch.allclose(slope, gradient, atol=1e-6)
