"""What the decoding loop asks of a network: read prompts once, then give the logits of one more token for every row.

Three engines answer it: ``HfEngine`` for any transformers causal LM, ``FastLlama`` for small Llama and Qwen2 models on
a CPU, ``StaticEngine`` where the host asks for it. Sessions own their caches and share the weights, so several can run
at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

BASE = None
"""The adapter of a row that runs on the base alone."""


class Session(Protocol):
    """The caches of one batch. Rows of one adapter stand together (the loop sorts them)."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """One token (B,) for each row to the logits (B, V) of the next."""

    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but these (int64, ascending)."""


@runtime_checkable
class ChannelSession(Protocol):
    """A session that can run adapters which are split by channel (``wavalign.models.channel_adapters``)."""

    split: bool
    """Whether any row has such an adapter."""

    def predict_speech(self, rows: np.ndarray) -> None:
        """bool (B,): for which rows the next step's position is speech's. Asked before every step where ``split``."""


class Engine(Protocol):
    device: torch.device

    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[Session, torch.Tensor]:
        """Reads the prompts, each once, and makes ``copies`` rows of each, with ``room`` for so many more tokens.

        Returns the session and the logits (len(prompts) * copies, V) after the prompts.
        """

    def weights_changed(self, adapter: str | None) -> None:
        """The weights of an adapter, or the base's own (None), are no longer what they were."""


def engine_for(model: Any, lock: threading.RLock | None = None) -> Engine:
    """The fastest engine that is exact for ``model`` (a causal LM, or a PEFT model around one).

    ``lock`` is held for every forward through the model's own modules.
    """
    from wavalign.models import static_engine
    from wavalign.models.fast_llama import FastLlama
    from wavalign.models.hf_engine import HfEngine

    if FastLlama.fits(model):
        static_engine.unused("small models on a CPU")
        return FastLlama(model)
    how = static_engine.chosen()
    if how != "plain" and static_engine.StaticEngine.fits(model):
        return static_engine.StaticEngine(model, lock, "inductor" if how == "compiled" else None)
    static_engine.unused(f"models of the type {model.config.model_type}")
    return HfEngine(model, lock)


def left_padded(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Ids (P, L), the number of pads of each row (P,), and a mask (P, L), True on tokens, or None without padding."""
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    pads = torch.tensor([longest - len(prompt) for prompt in prompts], device=device)
    if not bool(pads.any()):
        return ids, pads, None
    return ids, pads, torch.arange(longest, device=device) >= pads[:, None]
