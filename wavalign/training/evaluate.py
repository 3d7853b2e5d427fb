"""What the model says to held-out prompts, measured the same way with the same seeds each time.

``eval/semantic/*`` are of the words of several sampled replies to each prompt, ``eval/acoustic/*`` of one spoken reply
to some of them and of the demonstrations' likelihood. ``eval/kl/*`` and ``eval/entropy/*`` are of the tokens of those
spoken replies, in nats a token: the k3 estimate of the distance from the reference (the untrained model), and the
policy's entropy. They exist for every method, also where training itself samples no speech or has no use for a
reference. ``guard/*`` is how much worse a measure has become since before training: what the reward does not see can
break unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from wavalign.audio import Waveform, write
from wavalign.closedtalk.deliveries import Delivery
from wavalign.metrics.measures import measure
from wavalign.metrics.wer import word_errors
from wavalign.models.protocol import Sampling
from wavalign.rewards.combine import RewardMix
from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import Answer
from wavalign.rewards.registry import RECOGNISER_FOLDER, REFERENCES_FILE, RewardContext
from wavalign.training import objectives
from wavalign.training.batch import Completion, Unit, flatten
from wavalign.training.channels import NAMES, channels_of
from wavalign.training.config import Evaluation, LoraTuning
from wavalign.training.examples import Example
from wavalign.training.hybrid import channel_means, channel_sums
from wavalign.training.trainee import POLICY, Trainee
from wavalign.training.world import World, joined

RIGHT = 4.0
"""A semantic score from which an answer counts as right."""
_ROWS_AT_ONCE = 64
_ROWS_SCORED = 16
GUARDED = {"wer": 1.0, "delivery": -1.0, "nll_speech": 1.0, "nll_text": 1.0}
"""Acoustic measures that are guarded, and the sign of getting worse."""


@dataclass(frozen=True)
class Spoken:
    """One spoken reply, measured; None where a measure cannot be taken."""

    id: str
    question: str | None
    text: str
    finished: bool
    seconds: float
    heard: str | None = None
    errors: int = 0
    words: int = 0
    delivery: str | None = None
    nearest: str | None = None
    f0_sd: float | None = None
    rate: float | None = None
    energy: float | None = None
    energy_sd: float | None = None
    pause_ratio: float | None = None


class Evaluator:
    """``baseline`` holds the first evaluation's acoustic measures; it is part of a checkpoint."""

    def __init__(
        self,
        config: Evaluation,
        trainee: Trainee,
        examples: Sequence[Example],
        rewards: RewardConfig,
        context: RewardContext,
        world: World,
    ) -> None:
        self.config = config
        self.trainee = trainee
        self.examples = list(examples)[: config.prompts]
        self.context = context
        self.world = world
        self.semantic = _semantic_rewards(rewards, context, self.examples)
        self.baseline: dict[str, float] = {}
        self.hears = (context.assets / RECOGNISER_FOLDER / "config.json").is_file()
        self.has_references = (context.assets / REFERENCES_FILE).is_file()

    def run(self, folder: Path | None) -> dict[str, float]:
        """All measures; samples are written to ``folder`` by the process that is given one."""
        metrics = self._semantic() | self._acoustic(folder) | self._likelihood()
        acoustic = {name: metrics.get(f"eval/acoustic/{name}") for name in GUARDED}
        for name, value in acoustic.items():
            if value is None:
                continue
            self.baseline.setdefault(name, value)
            metrics[f"guard/{name}"] = GUARDED[name] * (value - self.baseline[name])
        return metrics

    def broken_guards(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The guarded measures that got worse by more than the config allows."""
        return {
            name: metrics[f"guard/{name}"]
            for name, allowed in self.config.guard.items()
            if metrics.get(f"guard/{name}", 0.0) > allowed
        }

    def _sampling(self) -> Sampling:
        default = self.trainee.policy.default_sampling
        heat = default.temperature if self.config.temperature is None else self.config.temperature
        speech = (
            default.speech_temperature if self.config.speech_temperature is None else self.config.speech_temperature
        )
        values = {**asdict(default), "temperature": heat, "speech_temperature": speech, "seed": self.config.seed}
        return Sampling(**values)

    def _answers(self, examples: Sequence[Example], samples: int, text_only: bool) -> list[list[tuple]]:
        """This process's share of (example, rollout) groups; the seeds are those of the prompts' places."""
        policy = self.trainee.policy
        at_once = max(1, _ROWS_AT_ONCE // samples)
        groups: list[list[tuple]] = []
        for number, start in enumerate(range(0, len(examples), at_once)):
            if number % self.world.size != self.world.rank:
                continue
            batch = examples[start : start + at_once]
            prompts = [policy.encode_prompt(example.prompt) for example in batch]
            sampled = policy.sample_groups(
                prompts, samples, self._sampling(), checkpoint=POLICY, first=start, text_only=text_only
            )
            groups += [[(e, rollout) for rollout in rollouts] for e, rollouts in zip(batch, sampled, strict=True)]
        return groups

    def _semantic(self) -> dict[str, float]:
        if self.semantic is None:
            return {}
        pairs = joined(self._answers(self.examples, self.config.samples, text_only=True))
        answers = [Answer(e, self.trainee.policy.text_of(r.tokens), None, r.finished) for e, r in pairs]
        scores = self.semantic.score(answers).combined
        mine = [(a.example.facts.get("family"), s) for a, s in zip(answers, scores, strict=True)]
        known = [(family, score) for family, score in joined(self.world.gather(mine)) if score is not None]
        if not known:
            return {}
        values = np.array([score for _, score in known])
        metrics = {
            "eval/semantic/accuracy": float((values >= RIGHT).mean()),
            "eval/semantic/score": float(values.mean()),
        }
        for family in sorted({family for family, _ in known if family}):
            own = np.array([score for name, score in known if name == family])
            metrics[f"eval/semantic/{family}/accuracy"] = float((own >= RIGHT).mean())
            metrics[f"eval/semantic/{family}/score"] = float(own.mean())
        return metrics

    def _acoustic(self, folder: Path | None) -> dict[str, float]:
        examples = self.examples[: self.config.spoken]
        if not examples:
            return {}
        mine: list[tuple[Spoken, Waveform | None]] = []
        said = joined(self._answers(examples, 1, text_only=False))
        for example, rollout in said:
            waveform = self.trainee.policy.decode_speech(rollout.tokens)
            text = self.trainee.policy.text_of(rollout.tokens)
            spoken = self._measured(example, text, rollout.finished, waveform)
            mine.append((spoken, waveform if len(mine) < self.config.kept else None))
        everybody = joined(self.world.gather(mine))
        if folder is not None and self.config.kept:
            _write_samples(folder, everybody[: self.config.kept])
        replies = [spoken for spoken, _ in everybody]
        metrics = {"seconds": float(np.mean([r.seconds for r in replies]))}
        metrics["finished"] = float(np.mean([r.finished for r in replies]))
        words = sum(r.words for r in replies)
        if words and any(r.heard is not None for r in replies):
            metrics["wer"] = sum(r.errors for r in replies) / words
        wanted = [r for r in replies if r.delivery is not None and self.has_references]
        if wanted:
            metrics["delivery"] = float(np.mean([r.nearest == r.delivery for r in wanted]))
        for name in ("f0_sd", "rate", "energy", "energy_sd", "pause_ratio"):
            values = [value for r in replies if (value := getattr(r, name)) is not None]
            if values:
                metrics[name] = float(np.mean(values))
        return {f"eval/acoustic/{name}": value for name, value in metrics.items()} | self._drift(said)

    @torch.no_grad()
    def _drift(self, said: Sequence[tuple]) -> dict[str, float]:
        """Distance from the reference and entropy on these (example, rollout) pairs of the policy's own replies.

        Every process scores all of them: forwards of a wrapped model must be as many on each.
        """
        trainee, policy = self.trainee, self.trainee.policy
        mine = [(policy.encode_prompt(example.prompt), list(rollout.tokens)) for example, rollout in said]
        units = [
            Unit(prompt, [Completion(tokens, channels_of(policy, tokens), target=True)])
            for prompt, tokens in joined(self.world.gather(mine))
        ]
        # Full fine-tuning keeps a copy of the untrained weights only where its loss needs one.
        compared = trainee.frozen is not None or isinstance(trainee.config.tuning, LoraTuning)
        sums: dict[str, float] = {}
        for start in range(0, len(units), _ROWS_SCORED):
            batch = units[start : start + _ROWS_SCORED]
            scores = trainee.logprobs(batch)
            flat = flatten(batch, scores.logprobs.device)
            parts = channel_sums("entropy", scores.entropy, flat, flat.target)
            if compared:
                divergence = objectives.k3(scores.logprobs, trainee.reference_logprobs(batch))
                parts |= channel_sums("kl", divergence, flat, flat.target)
            sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
        found = {name: channel_means(name, sums) for name in ("kl", "entropy")}
        return {f"eval/{name}/{label}": value for name, means in found.items() for label, value in means.items()}

    def _measured(self, example: Example, text: str, finished: bool, waveform: Waveform) -> Spoken:
        measures = measure(waveform, text)
        heard, errors, words = None, 0, 0
        if text.strip() and self.hears:
            (heard,) = self.context.recogniser.transcribe([waveform])
            counted = word_errors(text, heard)
            errors, words = counted.errors, counted.words
        wanted = example.facts.get("delivery")
        nearest = None
        if wanted is not None and self.has_references:
            nearest = self.context.references.adherence_of(measures, Delivery(wanted)).nearest
        return Spoken(
            id=example.id,
            question=example.question_text,
            text=text,
            finished=finished,
            seconds=waveform.seconds,
            heard=heard,
            errors=errors,
            words=words,
            delivery=wanted,
            nearest=None if nearest is None else nearest.value,
            f0_sd=measures.f0_sd_semitones,
            rate=measures.letters_per_second,
            energy=measures.energy_db,
            energy_sd=measures.energy_sd_db,
            pause_ratio=measures.pause_ratio,
        )

    @torch.no_grad()
    def _likelihood(self) -> dict[str, float]:
        policy, units = self.trainee.policy, []
        for place, example in enumerate(self.examples):
            if example.has_target and place % self.world.size == self.world.rank:
                tokens = policy.encode_target(example.target_text, example.target_speech)
                completion = Completion(tokens, channels_of(policy, tokens), target=True)
                units.append(Unit(policy.encode_prompt(example.prompt), [completion]))
        sums = {name: [0.0, 0.0] for name in NAMES.values()}
        for start in range(0, len(units), _ROWS_SCORED):
            batch = units[start : start + _ROWS_SCORED]
            logp = self.trainee.logprobs(batch).logprobs
            flat = flatten(batch, logp.device)
            for channel, name in NAMES.items():
                chosen = flat.channel == int(channel)
                sums[name][0] += float(-logp[chosen].double().sum())
                sums[name][1] += float(chosen.sum())
        everybody = self.world.gather(sums)
        metrics = {}
        for name in ("text", "speech"):
            total, count = (sum(each[name][i] for each in everybody) for i in (0, 1))
            if count:
                metrics[f"eval/acoustic/nll_{name}"] = total / count
        return metrics


def _semantic_rewards(rewards: RewardConfig, context: RewardContext, examples: Sequence[Example]) -> RewardMix | None:
    """The rule wherever it can judge all prompts, so that runs with different rewards compare; else the run's rewards
    of words that need no audio."""
    if examples and all(example.facts.get("item") is not None for example in examples):
        weights = {"rule": 1.0}
    else:
        judges = [r.name for r in RewardMix.of(rewards, context).rewards if r.channel == "text" and not r.needs_audio]
        weights = {name: rewards.weights[name] for name in judges if rewards.weights[name] > 0}
    if not weights:
        return None
    return RewardMix.of(rewards.model_copy(update={"weights": weights}), context)


def _write_samples(folder: Path, replies: Sequence[tuple]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (spoken, waveform) in enumerate(replies):
        name = f"{number:02d}.wav"
        if waveform is not None:
            write(folder / name, waveform)
        lines.append(json.dumps({"file": name, **asdict(spoken)}))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
