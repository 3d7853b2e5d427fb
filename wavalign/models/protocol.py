"""What a spoken dialogue model is to the rest of the program, and what post-training asks of one in addition."""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Reply, ReplyChunk

if TYPE_CHECKING:
    from wavalign.models.channel_adapters import ChannelRanks
    from wavalign.models.shared_rows import FlatScores, SharedRow


class SamplingError(ValueError):
    """Settings that cannot be sampled with; the message is one sentence that names the field."""


class GenerationError(ValueError):
    """A dialogue that cannot be answered; the message is one sentence for the person who asked."""


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message is one sentence that names it and says what to do."""


class Channel(IntEnum):
    """What a completion token carries. FORMAT: chunk boundaries, end marks, padding."""

    TEXT = 0
    SPEECH = 1
    FORMAT = 2


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The same seed gives the same reply, whatever else is decoded in the same batch."""

    temperature: float = 0.8
    """0 is greedy."""
    speech_temperature: float | None = None
    """Temperature of speech tokens; None means ``temperature``."""
    top_k: int = 0
    """Keep the k most likely tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens that holds this much probability; 1 keeps all."""
    repetition_window: int = 0
    """How many of the last completion tokens the repetition penalty looks at; 0 switches the guard off."""
    repetition_penalty: float = 1.0
    """Logits of tokens in the window are divided by this when positive, multiplied when negative; 1 changes nothing."""
    max_seconds: float = 12.0
    """Speech beyond this is not generated."""
    max_tokens: int = 400
    """Completion tokens of all channels together."""
    seed: int = 0

    def __post_init__(self) -> None:
        temperatures = {"temperature": self.temperature, "speech_temperature": self.speech_temperature}
        for name, value in temperatures.items():
            if value is not None and not (math.isfinite(value) and 0 <= value <= 10):
                raise SamplingError(f"{name} must be between 0 (greedy) and 10, got {value}.")
        if self.top_k < 0:
            raise SamplingError(f"top_k must be 0 (all tokens) or more, got {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise SamplingError(f"top_p must be above 0 and at most 1, got {self.top_p}.")
        if self.repetition_window < 0:
            raise SamplingError(f"repetition_window must be 0 (off) or more, got {self.repetition_window}.")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty >= 1):
            raise SamplingError(f"repetition_penalty must be 1 (off) or more, got {self.repetition_penalty}.")
        if not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise SamplingError(f"max_seconds must be above 0, got {self.max_seconds}.")
        if self.max_tokens < 1:
            raise SamplingError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        if not 0 <= self.seed < 2**63:
            raise SamplingError(f"seed must be between 0 and 2**63 - 1, got {self.seed}.")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 and (self.speech_temperature or 0) == 0


@dataclass(frozen=True)
class Request:
    """One reply to make: ``checkpoint`` is a name among those the model was loaded with."""

    dialogue: Dialogue
    checkpoint: str
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class Checkpoint:
    """A model that can be loaded: a base, perhaps an adapter on it, and where it came from.

    ``base`` is the base's folder (or hub id while it is not here yet, or a service's address), ``base_name`` the name
    the registry knows it by; ``adapter`` a PEFT folder (or hub id) or None. ``provenance`` is what the folder says of
    itself (run, data, revision, ...), possibly empty. ``dtype`` and ``device`` are names or "auto"; ``revision`` is the
    pinned commit of a base from the hub; ``arena`` says whether it meets others in blind battles.
    """

    name: str
    layout: str
    base: Path | str
    base_name: str
    adapter: Path | str | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "auto"
    device: str = "auto"
    revision: str | None = None
    arena: bool = True


class SpokenDialogueModel(Protocol):
    """Answers dialogues in text and speech.

    Generators end early when they are closed or when ``stop`` is set; the caches are then freed at the next step.
    A generator's return value holds the whole reply, so ``reply = yield from model.reply(...)`` forwards the chunks
    and keeps the reply.
    """

    names: tuple[str, ...]
    """The checkpoints it was loaded with."""
    sample_rate: int
    """Of every waveform it makes, in Hz."""

    def reply(
        self,
        dialogue: Dialogue,
        sampling: Sampling | None = None,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[ReplyChunk, None, Reply]:
        """Streams one reply. ``sampling`` None is what the base recommends, ``checkpoint`` None the first name."""

    def stream_many(
        self, requests: Sequence[Request], stop: threading.Event | None = None
    ) -> Generator[list[ReplyChunk | None], None, list[Reply]]:
        """Streams several replies decoded in one batch: each item has one entry a request, None where nothing came."""

    def reply_many(self, requests: Sequence[Request], stop: threading.Event | None = None) -> list[Reply]:
        """Whole replies, decoded in one batch."""


@dataclass(frozen=True)
class Rollout:
    """One sampled completion. ``logprobs`` float32 (len(tokens),) under the model itself: temperature 1, no masking.

    Without tokens it failed: whoever was asked for it did not answer.
    """

    tokens: tuple[int, ...]
    logprobs: np.ndarray
    finished: bool


@dataclass(frozen=True)
class Scores:
    """Teacher-forced measures of completions, right-padded. All of shape (B, T), T the longest completion.

    ``logprobs`` and ``entropy`` in nats at temperature 1, float32; ``mask`` True where a completion token stands.
    ``logprobs`` carries gradients unless the caller is in ``torch.no_grad``.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor
    mask: torch.Tensor


class TrainablePolicy(Protocol):
    """What post-training needs of a model."""

    text_end: int | None
    """The token that closes a reply's text, in layouts that have one."""
    speech_in_order: bool
    """Whether a reply's speech tokens follow one another in time, evenly: not where a codebook runs ahead of others."""
    network: torch.nn.Module
    """The causal LM whose weights, or adapters on it, are trained."""

    def text_of(self, tokens: Sequence[int]) -> str:
        """The words of a completion."""

    def well_formed(self, tokens: Sequence[int], whole: bool) -> bool:
        """Whether a completion follows the layout; a ``whole`` one must also reach its end."""

    def encode_prompt(self, dialogue: Dialogue) -> list[int]:
        """Token ids up to and including the assistant mark; oldest turns are dropped when it would not fit."""

    def encode_target(self, text: str, speech: Waveform | Sequence[int]) -> list[int]:
        """The completion that says ``text`` with ``speech`` (a waveform, or codec codes), in the model's layout."""

    def sample_groups(
        self,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        sampling: Sampling,
        *,
        checkpoint: str | None = None,
        stop: threading.Event | None = None,
        first: int = 0,
        text_only: bool = False,
        spoken: int | None = None,
    ) -> list[list[Rollout]]:
        """``group_size`` completions of each prompt, each prompt read once. Row i, sample k: a seed of its own.

        ``first`` is the number of the first prompt in a larger batch, so that parts of it draw as the whole would.
        ``text_only`` ends a completion, as finished, where its text ends; with ``spoken``, all but the first so many
        of each prompt end there.
        """

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        *,
        checkpoint: str | None = None,
    ) -> Scores:
        """One teacher-forced forward through the transformers model (adapters in place, gradients as set)."""

    def channel_of(self, ids: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
        """``Channel`` values, int8, of the shape of ``ids``."""

    def decode_speech(self, ids: Sequence[int]) -> Waveform:
        """The waveform of the speech tokens among ``ids``."""

    def lora_targets(self) -> list[str]:
        """Names of the modules that adapters attach to, as PEFT's ``target_modules``."""


class TrainableBase(Protocol):
    """The weights that checkpoints of one base share, as a trainer holds them; each layout has its own."""

    name: str
    model: Any
    """The network, or the PEFT model around it once an adapter is attached."""
    network: torch.nn.Module
    lock: threading.RLock
    """Held while modules run or change."""
    context: int
    """Tokens that prompt and completion may have together."""
    task_type: str | None
    """What PEFT is told of the network; None for what is no plain causal LM."""

    def attached(self, model: Any) -> None:
        """``model`` is this base with one more adapter."""

    def split(self, adapter: str, ranks: ChannelRanks) -> None:
        """Makes an attached adapter two, one for each channel, in layouts that put both into one stream."""

    def policy(self, adapters: Mapping[str, str | None]) -> Any:
        """A ``SpokenDialogueModel`` and ``TrainablePolicy`` over checkpoints: name -> adapter, None for the base."""

    def score_rows(self, module: torch.nn.Module, rows: Sequence[SharedRow], packed: bool) -> FlatScores:
        """One forward over ``rows`` through ``module``: ``model`` or what a launcher wrapped around it."""

    def packs(self) -> bool:
        """Whether completions of one prompt may share a row without changing their numbers."""

    def weights_changed(self, adapter: str | None) -> None:
        """An optimiser has changed the weights of ``adapter`` (None: the base's own)."""

    def frozen_copy(self) -> TrainableBase:
        """The same base with weights of its own, which are not trained."""

    def unfreeze(self) -> None:
        """All weights that full fine-tuning trains are trained from here on, in float32."""

    exported: Any
    """The model of transformers that ``export`` saves."""

    def export(self, folder: Path, source: Path, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """Writes a base's folder with the weights as they are now; ``source`` is the folder it was loaded from.

        ``state`` holds the weights of ``exported`` where it does not hold them whole itself.
        """
