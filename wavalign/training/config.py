"""One typed config for a run: the YAML in the run folder, the command line and a form all come from this schema.

A recipe is only a choice of these values (``wavalign/recipes``). No torch is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from wavalign.rewards.config import RewardConfig
from wavalign.rewards.protocol import HIGHEST, LOWEST
from wavalign.training.data_config import DataConfig
from wavalign.training.mixing import FixedMix, MixConfig, WavAlignMix
from wavalign.training.pairs import PairConfig
from wavalign.training.rollout_config import RolloutConfig


class ConfigError(ValueError):
    """A config that cannot be used; the message names the field and says what to do."""


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def _unless_named(kind: str) -> BeforeValidator:
    """Fields of a block that does not name its kind are those of its usual ``kind``."""

    def tagged(block: Any) -> Any:
        return {"kind": kind, **block} if isinstance(block, Mapping) and "kind" not in block else block

    return BeforeValidator(tagged)


class PolicyGradient(_Block):
    """The preference term of a hybrid method: which objective, on which tokens, held how near to the reference."""

    objective: Literal["grpo", "dr_grpo", "dapo", "gspo"] = "grpo"
    """grpo: z-scores, mean over each reply. dr_grpo: no division by deviation or length. dapo: mean over all tokens,
    clip higher, groups without differences left out. gspo: one ratio for a whole reply."""
    scope: Literal["text", "all", "routed"] = "text"
    """Tokens that the reward moves: words only; all; or each channel by its own rewards (ALPO)."""
    clip_low: float | None = Field(None, gt=0, lt=1)
    """The ratio's lower bound is 1 minus this; empty takes the objective's own."""
    clip_high: float | None = Field(None, gt=0)
    """The ratio's upper bound is 1 plus this; empty takes the objective's own."""
    kl_text: float = Field(0.0, ge=0)
    """Weight of the k3 divergence from the reference on the words of sampled replies (the paper: 0.01)."""
    kl_speech: float = Field(0.0, ge=0)
    """The same on their speech tokens."""
    text_weight: float = Field(1.0, ge=0)
    """Scope routed: weight of the words' own term."""
    speech_weight: float = Field(1.0, ge=0)
    """Scope routed: weight of the speech tokens' own term."""
    speech_negative: float = Field(1.0, ge=0, le=1)
    """Scope routed: factor on the negative advantages of speech tokens. A reply that sounds bad is mostly unsure of its
    sounds, and pushing unsure tokens down makes the model less sure still; 0 learns from the better replies alone."""
    speech_credit: Literal["reply", "words"] = "reply"
    """Scope routed: whether all speech tokens of a reply get its advantage, or those of each word that word's own, from
    rewards that tell when something was heard (pronunciation). Each reward then has advantages of its own, which are
    weighted; the others' are the same for all of the reply."""
    speech_enough: dict[str, float] = {}
    """Scope routed, credit by words: reward -> the score from which a reply or a word is good enough: higher ones count
    as this. Differences among good renderings are mostly chance, and a group's z-scores would make much of them."""
    format_weight: float = Field(1.0, ge=0)
    """Scope routed: weight of the term of end marks and boundaries."""

    @model_validator(mode="after")
    def _credited(self) -> PolicyGradient:
        if self.scope == "routed" and self.objective == "gspo":
            raise ValueError(
                "method.preference.objective gspo has one ratio for all of a reply; with scope routed, where each "
                "channel learns from its own rewards, take grpo, dr_grpo or dapo."
            )
        if self.speech_credit == "words" and (self.scope != "routed" or self.objective == "dapo"):
            raise ValueError(
                "method.preference.speech_credit words needs scope routed (other scopes have one reward) and objective "
                "grpo or dr_grpo (dapo leaves groups out by the rewards of whole replies)."
            )
        if self.speech_enough and self.speech_credit != "words":
            raise ValueError("method.preference.speech_enough needs method.preference.speech_credit words.")
        off = [name for name, score in self.speech_enough.items() if not LOWEST < score <= HIGHEST]
        if off:
            raise ValueError(f"method.preference.speech_enough of {', '.join(off)} must be above 1 and at most 5.")
        return self


class Anchor(_Block):
    """The demonstration term: likelihood of the target's tokens."""

    normalise: Literal["tokens", "sequence", "channel"] = "tokens"
    """tokens: mean over all tokens of the batch; sequence: mean over each target first; channel: the mean over words
    (with marks) plus the mean over speech."""
    text_weight: float = Field(1.0, ge=0)
    """Factor on the target's words and marks."""
    speech_weight: float = Field(1.0, ge=0)
    """Factor on the target's speech tokens."""


class HybridMethod(_Block):
    """lambda * preference + (1 - lambda) * demonstration: SFT, GRPO, WavAlign and ALPO are choices of it."""

    kind: Literal["hybrid"] = "hybrid"
    preference: PolicyGradient = PolicyGradient()
    """The term on sampled replies."""
    anchor: Anchor = Anchor()
    """The term on demonstrations."""
    mix: Annotated[MixConfig, _unless_named("wavalign")] = WavAlignMix()
    """How much of each."""
    mix_per_channel: bool = False
    """Scope routed: words and speech each have a lambda of their own, from their own rewards."""
    mix_speech: MixConfig | None = None
    """With mix_per_channel: the rule for speech; empty takes the same as for words. Sound differs less than meaning
    within a group, so a gate made for meaning hardly opens for it."""

    @property
    def samples(self) -> bool:
        """Whether replies are sampled at all: not in plain supervised fine-tuning."""
        return not (isinstance(self.mix, FixedMix) and self.mix.rl == 0)

    @property
    def demonstrates(self) -> bool:
        return not (isinstance(self.mix, FixedMix) and self.mix.rl == 1)

    @model_validator(mode="after")
    def _consistent(self) -> HybridMethod:
        if self.mix_per_channel and self.preference.scope != "routed":
            raise ValueError("mix_per_channel needs preference.scope to be routed: other scopes have one reward.")
        if self.mix_speech is not None and not self.mix_per_channel:
            raise ValueError("mix_speech is speech's own rule: it needs mix_per_channel.")
        return self


class PreferenceMethod(_Block):
    """DPO on pairs: the best against the worst of sampled replies, or pairs that the data holds."""

    kind: Literal["dpo"] = "dpo"
    scope: Literal["text", "all"] = "text"
    """Tokens whose likelihood is compared."""
    gamma: float = Field(0.1, gt=0)
    """Inverse temperature of the implicit reward (often called beta)."""
    source: Literal["sampled", "data"] = "sampled"
    """Pairs from sampled and scored replies, or the data's chosen and rejected ones."""
    sampler: Literal["base", "policy"] = "base"
    """Who is sampled: the untrained model, as in the paper, or the one being trained (online DPO)."""
    pairs: PairConfig = PairConfig()
    """How samples become pairs."""
    anchor_weight: float = Field(0.0, ge=0)
    """Weight of the likelihood of the demonstration (or of the chosen reply of the data), added to the loss."""

    @property
    def samples(self) -> bool:
        return self.source == "sampled"


class LoraTuning(_Block):
    """A low-rank adapter on the base, which itself stays as it is."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(64, ge=1)
    alpha: float = Field(64, gt=0)
    """The term's scale is alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """Names of the modules to adapt; empty takes all linear layers of the decoder."""
    per_channel: bool = False
    """One adapter for words and one for speech, each of this rank and active only where its channel is predicted."""


class FullTuning(_Block):
    """All weights of the model."""

    kind: Literal["full"] = "full"


class Optimiser(_Block):
    """AdamW, its schedule, and the clip of the gradient."""

    lr: float = Field(1e-3, gt=0)
    """Learning rate at its peak."""
    states: Literal["float32", "8bit"] = "float32"
    """How the two averages of each weight are kept; 8bit takes a quarter of the memory and needs bitsandbytes."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup: int = Field(10, ge=0)
    """Steps in which the rate rises from 0."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    floor: float = Field(0.1, ge=0, le=1)
    """The last step's rate as a share of the peak."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Longer gradients are scaled down to this length."""


Guarded = Literal["wer", "delivery", "nll_speech", "nll_text"]


class Evaluation(_Block):
    """What is measured on held-out prompts during a run, always with the same seeds."""

    every: int = Field(50, ge=0)
    """Steps between two evaluations; also before the first step and after the last. 0 switches them off."""
    data: DataConfig = DataConfig(split="validation", shuffle=False)
    """The held-out prompts."""
    prompts: int = Field(64, ge=1)
    """How many of them."""
    samples: int = Field(4, ge=1)
    """Replies to each, of which only the words are needed."""
    spoken: int = Field(24, ge=0)
    """Prompts of which one reply is spoken to its end and measured."""
    kept: int = Field(6, ge=0)
    """Spoken replies that are saved in the run's samples folder."""
    temperature: float | None = Field(None, ge=0, le=5)
    """Of the words; empty takes the base's own."""
    speech_temperature: float | None = Field(None, ge=0, le=5)
    """Of the speech tokens; empty takes the base's own."""
    seed: int = Field(7, ge=0)
    """Of every evaluation's samples."""
    guard: dict[Guarded, float] = {
        "wer": 0.05,
        "delivery": 0.1,
        "nll_speech": 0.1,
    }
    """How much worse a measure may get than before training before an event says so."""


class Limits(_Block):
    """When a run gives up."""

    non_finite_steps: int = Field(5, ge=0)
    """Steps in a row whose loss or gradient is not a number; each is skipped, one more stops the run."""
    idle_steps: int = Field(20, ge=0)
    """Steps in a row without a demonstration, a preference pair or a reply whose reward counts; one more stops the
    run."""


class Checkpoints(_Block):
    """How often the state is saved, and how much of it is kept."""

    every: int = Field(50, ge=1)
    """Steps between two checkpoints."""
    keep: int = Field(2, ge=1)
    """The newest so many are kept."""


class TrainConfig(_Block):
    """Everything that decides a run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """What the run, and the adapter it makes, are called."""
    base: str = "closedtalk-base"
    """The checkpoint to start from: a base, or an adapter that is trained on."""
    assets: Path | None = None
    """The folder of checkpoints and data; empty takes the shipped one."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of initial adapter weights, sampling and dropout. The order of prompts has data.seed."""
    steps: int = Field(200, ge=1)
    """Batches of prompts that are learned from."""
    batch: int = Field(8, ge=1)
    """Prompts in a batch, of all processes together."""
    micro_batch: int = Field(4, ge=1)
    """Prompts, with their replies and demonstration, in one forward pass."""
    data: DataConfig = DataConfig()
    """The prompts and demonstrations."""
    rewards: RewardConfig = RewardConfig()
    """What makes a reply good."""
    rollouts: RolloutConfig = RolloutConfig()
    """How replies are sampled."""
    method: Annotated[HybridMethod | PreferenceMethod, Field(discriminator="kind"), _unless_named("hybrid")] = (
        HybridMethod()
    )
    """What is learned from them."""
    tuning: Annotated[LoraTuning | FullTuning, Field(discriminator="kind"), _unless_named("lora")] = LoraTuning()
    """Which weights change."""
    optimiser: Optimiser = Optimiser()
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products in the training forward; auto takes bfloat16 where the hardware multiplies it. Weights and
    sampling stay as they are."""
    parallel: Literal["auto", "ddp", "fsdp2"] = "auto"
    """Several processes: each with all weights (ddp), or weights, gradients and optimiser state shared out (fsdp2).
    auto is what accelerate was launched with, else ddp."""
    packing: Literal["auto", "on", "off"] = "auto"
    """One row for a prompt with all its replies, where the network takes such rows."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    evaluation: Evaluation = Evaluation()
    checkpoints: Checkpoints = Checkpoints()
    limits: Limits = Limits()
    tensorboard: bool = False
    """Mirror the metrics into the run's tensorboard folder."""
    trackio: str | None = None
    """Mirror the metrics into this trackio project."""

    @model_validator(mode="after")
    def _served_where_it_can_be(self) -> TrainConfig:
        if self.rollouts.source == "served":
            if not isinstance(self.method, HybridMethod):
                raise ValueError("rollouts.source served is for methods that weigh single tokens, not for pairs.")
            if not isinstance(self.tuning, LoraTuning) or self.tuning.per_channel:
                raise ValueError(
                    "rollouts.source served needs tuning.kind lora, one adapter for both channels: a server takes "
                    "plain adapters only."
                )
        return self

    @model_validator(mode="after")
    def _spoken_where_routed(self) -> TrainConfig:
        routed = isinstance(self.method, HybridMethod) and self.method.preference.scope == "routed"
        if self.rollouts.spoken is not None and not routed:
            raise ValueError(
                "rollouts.spoken needs method.preference.scope routed: elsewhere every reply is judged as a whole."
            )
        return self

    def stops_with_text(self, rewards_need_audio: bool) -> bool:
        """Whether sampled replies end with their text.

        True where asked for, and by default where neither the rewards nor the loss look at what comes after.

        Raises:
            ConfigError: when it is asked for although something needs whole replies.
        """
        needed = "the rewards need to hear them" if rewards_need_audio else self._loss_needs_speech()
        if self.rollouts.stop == "text" and needed:
            raise ConfigError(f"rollouts.stop is text, but replies must be whole: {needed}.")
        return self.rollouts.stop == "text" or (self.rollouts.stop == "auto" and not needed)

    def _loss_needs_speech(self) -> str | None:
        if isinstance(self.method, PreferenceMethod):
            return "method.scope is all" if self.method.scope == "all" else None
        preference = self.method.preference
        if preference.scope != "text":
            return f"method.preference.scope is {preference.scope}"
        return "method.preference.kl_speech is above 0" if preference.kl_speech > 0 else None
