"""DPO on pairs of replies to one prompt, over the words or over all tokens (arXiv 2604.14932, eq. 4-6 and 13-16)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from wavalign.models.protocol import TrainablePolicy
from wavalign.rewards.combine import RewardMix
from wavalign.training import objectives
from wavalign.training.batch import Completion, Flat, Unit
from wavalign.training.channels import channels_of, mask_of
from wavalign.training.config import Anchor, ConfigError, PreferenceMethod
from wavalign.training.examples import Example
from wavalign.training.hybrid import channel_sums, demonstration_metrics, demonstrations
from wavalign.training.pairs import best_against_worst
from wavalign.training.plan import Loss, Plan, Scores, reward_metrics
from wavalign.training.rollouts import Rewarded
from wavalign.training.world import World


def refuse_unpaired(config: PreferenceMethod, rewards: RewardMix) -> None:
    """What a run needs whose pairs are made of its own replies.

    Raises:
        ConfigError: when a channel counts in the utility that no reward judges, so that there would be no pair.
    """
    if config.source != "sampled":
        return
    share = config.pairs.semantic_weight
    for channel, kind, weight in (("text", "semantic", share), ("speech", "acoustic", 1 - share)):
        if weight > 0 and not rewards.names_for(channel):
            raise ConfigError(
                f"Pairs are chosen by {kind} scores too (method.pairs.semantic_weight is {share:g}), but no reward in "
                f"rewards.weights judges {'words' if channel == 'text' else 'speech'}."
            )


class Preference:
    """A ``Method``."""

    needs_reference = True

    def __init__(self, config: PreferenceMethod, policy: TrainablePolicy) -> None:
        self.config = config
        self.policy = policy
        self.samples = config.pairs.samples if config.source == "sampled" else 0
        self.on_policy = config.sampler == "policy"

    def plan(self, step: int, examples: list[Example], rewarded: Rewarded | None, world: World) -> Plan:
        metrics: dict[str, float] = {}
        if rewarded is not None:
            pairs = [self._sampled(rewarded, place) for place in range(len(examples))]
            prompts = [group.prompt for group in rewarded.groups]
            metrics = reward_metrics(rewarded, world)
        else:
            pairs = [self._given(example) for example in examples]
            prompts = [self.policy.encode_prompt(example.prompt) for example in examples]
        found = world.gather(sum(pair is not None for pair in pairs))
        metrics["pairs"] = float(sum(found))
        weight = 1.0 / max(sum(found), 1)
        targets: list[Completion | None] = [None] * len(examples)
        if self.config.anchor_weight > 0:
            share = np.full(len(examples), self.config.anchor_weight)
            targets = demonstrations(self.policy, examples, Anchor(), share, share, world)
        units = []
        for prompt, pair, target in zip(prompts, pairs, targets, strict=True):
            completions = [] if pair is None else [self._side(pair[0], 1), self._side(pair[1], -1)]
            for completion in completions:
                completion.compared *= weight
            completions += [] if target is None else [target]
            if completions:
                units.append(Unit(prompt, completions))
        return Plan(units, metrics)

    def _sampled(self, rewarded: Rewarded, place: int) -> tuple[list[int], list[int]] | None:
        semantic, acoustic = (
            [None if np.isnan(score) else float(score) for score in rewarded.channel[channel][place]]
            for channel in ("text", "speech")
        )
        pair = best_against_worst(semantic, acoustic, self.config.pairs)
        if pair is None:
            return None
        rollouts = rewarded.groups[place].rollouts
        return list(rollouts[pair.chosen].tokens), list(rollouts[pair.rejected].tokens)

    def _given(self, example: Example) -> tuple[list[int], list[int]] | None:
        if not example.has_rejected:
            return None
        return (
            self.policy.encode_target(example.target_text, example.target_speech),
            self.policy.encode_target(example.rejected_text, example.rejected_speech),
        )

    def _side(self, tokens: list[int], side: int) -> Completion:
        completion = Completion(tokens, channels_of(self.policy, tokens), side=side)
        completion.compared = mask_of(completion.channels, self.config.scope).astype(np.float32)
        return completion

    def loss(self, flat: Flat, scores: Scores, plan: Plan) -> Loss:
        nll = objectives.negative_log_likelihood(scores.logp)
        value = objectives.weighted_sum(nll, flat.demonstration)
        sums = channel_sums("nll", nll.detach(), flat, flat.target)
        # The two of a pair stand in one row, so in each micro-batch the n-th chosen belongs to the n-th rejected.
        chosen, rejected = (flat.side == 1).nonzero()[:, 0], (flat.side == -1).nonzero()[:, 0]
        if len(chosen):
            rows = len(flat.side)
            mask = (flat.compared != 0).to(scores.logp.dtype)
            policy = objectives.row_sums(scores.logp, flat.row, mask, rows)
            reference = objectives.row_sums(scores.reference, flat.row, mask, rows)
            result = objectives.dpo(
                policy[chosen], policy[rejected], reference[chosen], reference[rejected], self.config.gamma
            )
            # Each pair's weight, one over the number of pairs of all processes, stands at each of its tokens.
            weight = torch.zeros(rows, device=mask.device).scatter_reduce_(0, flat.row, flat.compared, "amax")[chosen]
            value = value + (result.loss * weight).sum()
            sums |= {
                "pair_loss": float(result.loss.detach().sum()),
                "pair_margin": float(result.margin.sum()),
                "pair_right": float((result.margin > 0).sum()),
                "pair_count": float(len(chosen)),
            }
        return Loss(value, sums)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        metrics = demonstration_metrics(sums)
        if sums.get("pair_count"):
            metrics |= {
                "loss/preference": sums["pair_loss"] / sums["pair_count"],
                "rewards/margins": sums["pair_margin"] / sums["pair_count"],
                "rewards/accuracies": sums["pair_right"] / sums["pair_count"],
            }
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError("DPO keeps no state between steps, but the checkpoint holds some.")
