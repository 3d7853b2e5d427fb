"""Preference on sampled replies and likelihood of demonstrations, mixed: SFT, GRPO, WavAlign and ALPO.

    loss = sum_k rl_weight_k * GRPO(tokens of channel k) + anchor_weight * NLL(demonstration) + beta_channel * KL

The weights come with the batch (``wavalign.training.batch``), each normalised by its own count over all processes.
The divergence is not scaled by lambda: what holds the policy must not fade when its rollouts stop teaching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from wavalign.models.protocol import TrainablePolicy
from wavalign.training import objectives
from wavalign.training.advantages import Scale, group_advantages, uniform_groups
from wavalign.training.batch import Completion, Flat, Unit
from wavalign.training.channels import FORMAT, NAMES, SPEECH, TEXT, channels_of, mask_of
from wavalign.training.config import Anchor, HybridMethod
from wavalign.training.credit import speech_advantages
from wavalign.training.examples import Example
from wavalign.training.mixing import MixWeights, RolloutStats
from wavalign.training.objectives import Clip
from wavalign.training.plan import Loss, Plan, Scores, reward_metrics
from wavalign.training.rollouts import Rewarded
from wavalign.training.weights import Normalise, row_weights
from wavalign.training.world import World, joined


@dataclass(frozen=True)
class Objective:
    """What tells one policy-gradient objective from another."""

    normalise: Normalise
    scale: Scale
    clip: Clip
    by_sequence: bool = False
    drop_uniform: bool = False


OBJECTIVES: dict[str, Objective] = {
    "grpo": Objective("sequence", "group", Clip(0.2, 0.2)),
    "dr_grpo": Objective("constant", "none", Clip(0.2, 0.2)),
    "dapo": Objective("tokens", "group", Clip(0.2, 0.28), drop_uniform=True),
    "gspo": Objective("sequence", "group", Clip(3e-4, 4e-4), by_sequence=True),
}
"""arXiv 2402.03300, 2503.20783, 2503.14476, 2507.18071, with the clips that the papers use."""


@dataclass(frozen=True)
class Term:
    """One preference term: the tokens it reaches, the rewards that move them, and whose lambda weighs it."""

    scope: str
    rewards: np.ndarray
    weight: float
    mix: str


class Hybrid:
    """A ``Method``. ``longest`` is the limit of a reply in tokens, which Dr.GRPO divides by.

    ``truncate``: replies come with the log-probabilities of whoever drew them, and the preference term is corrected by
    the importance ratio, truncated there. None: the policy itself draws.
    """

    on_policy = True

    def __init__(
        self,
        config: HybridMethod,
        policy: TrainablePolicy,
        group_size: int,
        longest: int,
        truncate: float | None = None,
    ) -> None:
        self.truncate = truncate
        self.config = config
        self.policy = policy
        self.longest = longest
        self.samples = group_size if config.samples else 0
        preference = config.preference
        self.needs_reference = self.samples > 0 and (preference.kl_text > 0 or preference.kl_speech > 0)
        self.objective = OBJECTIVES[preference.objective]
        own = self.objective.clip
        self.clip = Clip(
            own.low if preference.clip_low is None else preference.clip_low,
            own.high if preference.clip_high is None else preference.clip_high,
        )
        rules = {"all": config.mix}
        if config.mix_per_channel:
            rules = {"text": config.mix, "speech": config.mix_speech or config.mix}
        self.mixers = {name: rule.controller() for name, rule in rules.items()}

    def plan(self, step: int, examples: list[Example], rewarded: Rewarded | None, world: World) -> Plan:
        prompts = len(examples)
        metrics: dict[str, float] = {}
        replies: list[list[Completion]] = [[] for _ in examples]
        if rewarded is not None:
            terms = self._terms(rewarded)
            mixes, report = self._mixed(step, rewarded, world)
            metrics = {**reward_metrics(rewarded, world), **report}
            replies = self._replies(rewarded, terms, mixes, world)
            encoded = [group.prompt for group in rewarded.groups]
        else:
            mixes = {name: MixWeights(np.zeros(prompts), np.ones(prompts)) for name in self.mixers}
            encoded = [self.policy.encode_prompt(example.prompt) for example in examples]
        targets = self._targets(examples, mixes, world) if self.config.demonstrates else [None] * prompts
        units = [
            Unit(prompt, [*(reply for reply in group if reply.tokens), *([target] if target else [])])
            for prompt, group, target in zip(encoded, replies, targets, strict=True)
        ]
        chord = tuple(int(channel) for channel, mix in self._anchors(mixes).items() if mix.tokens == "chord")
        return Plan([unit for unit in units if unit.completions], metrics, chord)

    def _terms(self, rewarded: Rewarded) -> list[Term]:
        preference = self.config.preference
        if preference.scope != "routed":
            return [Term(preference.scope, rewarded.combined, 1.0, "all")]
        weights = {
            "text": preference.text_weight,
            "speech": preference.speech_weight,
            "format": preference.format_weight,
        }
        mixer = {name: name if name in self.mixers else "text" for name in weights}
        shared = dict.fromkeys(weights, "all")
        return [
            Term(name, rewarded.channel[name], weight, (mixer if self.config.mix_per_channel else shared)[name])
            for name, weight in weights.items()
        ]

    def _mixed(self, step: int, rewarded: Rewarded, world: World) -> tuple[dict[str, MixWeights], dict[str, float]]:
        """Each mixer's weights of this process's prompts, from the rewards of all, and the metrics of all."""
        mixes: dict[str, MixWeights] = {}
        metrics: dict[str, float] = {}
        for name, mixer in self.mixers.items():
            mine = rewarded.combined if name == "all" else rewarded.channel[name]
            parts = world.gather(mine)
            whole = mixer.update(RolloutStats(step, np.concatenate(parts)))
            start = sum(len(part) for part in parts[: world.rank])
            own = slice(start, start + len(mine))
            mixes[name] = MixWeights(whole.rl[own], whole.anchor[own], whole.tokens)
            ending = "" if name == "all" else f"_{name}"
            metrics |= {f"mix/{key}{ending}": value for key, value in whole.report.items()}
        if "mix/lambda" not in metrics:
            # Words have a lambda and its gates in every run, so runs compare by them.
            metrics |= {name.removesuffix("_text"): metrics[name] for name in list(metrics) if name.endswith("_text")}
        return mixes, metrics

    def _replies(
        self, rewarded: Rewarded, terms: list[Term], mixes: Mapping[str, MixWeights], world: World
    ) -> list[list[Completion]]:
        groups = rewarded.groups
        completions = [
            [
                Completion(
                    rollout.tokens,
                    channels_of(self.policy, rollout.tokens),
                    **({} if self.truncate is None else {"behaviour": np.asarray(rollout.logprobs, np.float32)}),
                )
                for rollout in group.rollouts
            ]
            for group in groups
        ]
        for term in terms:
            masks = [[mask_of(c.channels, term.scope) for c in group] for group in completions]
            valid = np.isfinite(term.rewards)
            if self.objective.drop_uniform:
                valid &= ~uniform_groups(term.rewards)[:, None]
            gains = self._global_weights(masks, valid, world)
            advantages = group_advantages(term.rewards, self.objective.scale)
            by_token: Sequence[Sequence[np.ndarray | float]] = advantages.tolist()
            if term.scope == "speech" and self.config.preference.speech_credit == "words":
                counts = [[int(mask.sum()) for mask in group] for group in masks]
                by_token = speech_advantages(
                    rewarded, counts, self.config.preference.speech_enough, self.objective.scale
                )
            lower = self.config.preference.speech_negative if term.scope == "speech" else 1.0
            for p, group in enumerate(completions):
                for k, completion in enumerate(group):
                    mask, moved = masks[p][k], by_token[p][k]
                    completion.gain[mask] = term.weight * gains[p, k]
                    completion.advantage[mask] = np.where(np.less(moved, 0), lower, 1.0) * moved
                    completion.mix[mask] = mixes[term.mix].rl[p]
        if self.needs_reference:
            self._hold(completions, rewarded, world)
        return completions

    def _hold(self, completions: list[list[Completion]], rewarded: Rewarded, world: World) -> None:
        """The divergence's weights, normalised as the preference term is: the held channels together where that term
        reaches all tokens, each by its own count elsewhere."""
        betas = {TEXT: self.config.preference.kl_text, SPEECH: self.config.preference.kl_speech}
        held = [channel for channel, beta in betas.items() if beta > 0]
        together = [held] if self.config.preference.scope == "all" else [[channel] for channel in held]
        known = np.isfinite(rewarded.combined)
        if self.config.preference.scope == "routed":  # a reply that nobody was to hear is held too
            known |= np.isfinite(rewarded.channel["text"])
        for channels in together:
            masks = [[np.isin(c.channels, channels) for c in group] for group in completions]
            weights = self._global_weights(masks, known, world)
            for p, group in enumerate(completions):
                for k, completion in enumerate(group):
                    for channel in channels:
                        completion.divergence[completion.channels == channel] = betas[channel] * weights[p, k]

    def _global_weights(self, masks: list[list[np.ndarray]], valid: np.ndarray, world: World) -> np.ndarray:
        """The weight (P, K) of each masked token of this process's replies, normalised over all processes' valid ones.

        A reply that is not valid (its reward failed) has weight 0 and is not counted.
        """
        counts = np.array([[int(mask.sum()) for mask in group] for group in masks])
        parts = world.gather(counts[valid])
        weights = row_weights(np.concatenate(parts), self.objective.normalise, self.longest)
        start = sum(len(part) for part in parts[: world.rank])
        result = np.zeros(counts.shape)
        result[valid] = weights[start : start + int(valid.sum())]
        return result

    def _targets(
        self, examples: list[Example], mixes: Mapping[str, MixWeights], world: World
    ) -> list[Completion | None]:
        mix = self._anchors(mixes)
        return demonstrations(
            self.policy,
            examples,
            self.config.anchor,
            text=mix[TEXT].anchor,
            speech=mix[SPEECH].anchor,
            world=world,
        )

    def _anchors(self, mixes: Mapping[str, MixWeights]) -> dict[int, MixWeights]:
        """Whose weights a demonstration's tokens of each channel have; marks go with the words."""
        names = {TEXT: "text", FORMAT: "text", SPEECH: "speech"}
        return {channel: mixes[name if name in mixes else "all"] for channel, name in names.items()}

    def loss(self, flat: Flat, scores: Scores, plan: Plan) -> Loss:
        logp = scores.logp
        log_ratio = objectives.token_log_ratio(logp, scores.old)
        if self.objective.by_sequence:
            log_ratio = objectives.sequence_log_ratio(log_ratio, flat.row, flat.gain != 0)
        surrogate = objectives.clipped_surrogate(log_ratio, flat.advantage, self.clip)
        moved = ~flat.target & (flat.gain != 0)
        gain, drawn = flat.gain, {}
        if self.truncate is not None:
            before = (logp.detach() if scores.old is None else scores.old) - flat.behaviour
            weight = objectives.truncated_importance(before, self.truncate)
            gain = gain * weight
            known = moved & ~before.isnan()
            drawn = {"ratio": float(weight[known].sum()), "ratio/count": float(known.sum())}
            drawn["ratio/cut"] = float((weight[known] >= self.truncate).sum())
        value = objectives.weighted_sum(surrogate.loss, gain * flat.mix)
        nll = objectives.negative_log_likelihood(logp)
        shares = flat.demonstration
        if plan.chord:
            own = torch.isin(flat.channel, torch.tensor(plan.chord, device=flat.channel.device))
            shares = shares * torch.where(own, objectives.chord_weight(logp), 1.0)
        value = value + objectives.weighted_sum(nll, shares)
        reply = ~flat.target
        sums = {"loss/rl": float(objectives.weighted_sum(surrogate.loss.detach(), gain)), **drawn}
        sums |= channel_sums("nll", nll.detach(), flat, flat.target)
        sums |= channel_sums("entropy", scores.entropy, flat, reply)
        sums |= {"moved": float(moved.sum()), "clipped": float((surrogate.clipped & moved).sum())}
        sums["entropy_moved"] = float(scores.entropy[moved].sum())
        if scores.reference is not None:
            divergence = objectives.k3(logp, scores.reference)
            value = value + objectives.weighted_sum(divergence, flat.divergence)
            sums |= channel_sums("kl", divergence.detach(), flat, reply)
        return Loss(value, sums)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        metrics = demonstration_metrics(sums)
        if self.samples:
            metrics["loss/rl"] = sums["loss/rl"]
            if sums["moved"]:
                metrics["entropy"] = sums["entropy_moved"] / sums["moved"]
                metrics["clip_ratio/region_mean"] = sums["clipped"] / sums["moved"]
            if sums.get("ratio/count"):
                metrics["rollouts/ratio_mean"] = sums["ratio"] / sums["ratio/count"]
                metrics["rollouts/ratio_truncated"] = sums["ratio/cut"] / sums["ratio/count"]
        for name in ("kl", "entropy"):
            metrics |= {f"{name}/{channel}": value for channel, value in channel_means(name, sums).items()}
        kl = [(sums.get(f"kl/{c}/sum", 0.0), sums.get(f"kl/{c}/count", 0.0)) for c in NAMES.values()]
        if sum(count for _, count in kl):
            metrics["kl"] = sum(total for total, _ in kl) / sum(count for _, count in kl)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {name: mixer.state_dict() for name, mixer in self.mixers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, mixer in self.mixers.items():
            mixer.load_state_dict(state[name])


def demonstrations(
    policy: TrainablePolicy,
    examples: list[Example],
    anchor: Anchor,
    text: np.ndarray,
    speech: np.ndarray,
    world: World,
) -> list[Completion | None]:
    """The examples' targets with the weights of their tokens; None where an example has none.

    ``text`` and ``speech`` (P,) are each prompt's weight on the words (and marks) and on the speech tokens.
    """
    targets: list[Completion | None] = []
    for example in examples:
        if not example.has_target:
            targets.append(None)
            continue
        tokens = policy.encode_target(example.target_text, example.target_speech)
        targets.append(Completion(tokens, channels_of(policy, tokens), target=True))
    sounds = [None if target is None else target.channels == SPEECH for target in targets]
    counts = [(int((~s).sum()), int(s.sum())) for s in sounds if s is not None]
    everybody = np.array(joined(world.gather(counts)), dtype=float).reshape(-1, 2)
    words, sound = everybody.sum(0)
    for place, (target, spoken) in enumerate(zip(targets, sounds, strict=True)):
        if target is None or spoken is None:
            continue
        if anchor.normalise == "channel":
            each = np.where(spoken, 1 / max(sound, 1), 1 / max(words, 1))
        elif anchor.normalise == "sequence":
            each = np.full(len(spoken), 1 / (len(everybody) * len(spoken)))
        else:
            each = np.full(len(spoken), 1 / (words + sound))
        share = np.where(spoken, anchor.speech_weight * speech[place], anchor.text_weight * text[place])
        target.demonstration = (each * share).astype(np.float32)
    return targets


def channel_sums(name: str, values: torch.Tensor, flat: Flat, where: torch.Tensor) -> dict[str, float]:
    """Sums and counts of ``values`` (N,) by channel, over the tokens ``where`` (N,) is True."""
    sums: dict[str, float] = {}
    for channel, label in NAMES.items():
        chosen = where & (flat.channel == int(channel))
        sums[f"{name}/{label}/sum"] = float(values[chosen].sum())
        sums[f"{name}/{label}/count"] = float(chosen.sum())
    return sums


def channel_means(name: str, sums: Mapping[str, float]) -> dict[str, float]:
    """Means of text and speech from ``channel_sums``; a channel without tokens has none."""
    return {
        label: sums[f"{name}/{label}/sum"] / sums[f"{name}/{label}/count"]
        for label in ("text", "speech")
        if sums.get(f"{name}/{label}/count")
    }


def demonstration_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """``loss/sft_text`` and ``loss/sft_speech``: mean negative log-likelihood of a demonstration's tokens, in nats."""
    return {f"loss/sft_{label}": value for label, value in channel_means("nll", sums).items()}
