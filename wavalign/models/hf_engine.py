"""The generic engine: any transformers causal LM through its own forward, with its own cache."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from wavalign.models.channel_adapters import gates_of, speaking
from wavalign.models.engine import left_padded


class HfEngine:
    """Left-padded batches; adapters of different rows through PEFT's mixed batches (``adapter_names``)."""

    def __init__(self, model: Any, lock: threading.RLock | None = None) -> None:
        self.model = model
        self.network = model.get_base_model() if hasattr(model, "peft_config") else model
        self.accepts = set(inspect.signature(self.network.forward).parameters)
        # PEFT puts hooks on the modules for the time of a mixed forward: one forward at a time.
        self.lock = lock or threading.RLock()

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def weights_changed(self, adapter: str | None) -> None:
        """The model's own modules are what runs: there is nothing to forget."""

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[HfSession, torch.Tensor]:
        pad = getattr(self.network.config, "pad_token_id", None) or 0
        ids, pads, _ = left_padded(prompts, pad, self.device)
        session = HfSession(self, pads, ids.shape[1], list(adapters))
        positions = (torch.arange(ids.shape[1], device=self.device) - pads[:, None]).clamp(min=0)
        logits = session.forward(ids, positions)
        if copies > 1:
            session.repeat(copies)
            logits = logits.repeat_interleave(copies, dim=0)
        return session, logits


class HfSession:
    def __init__(self, engine: HfEngine, pads: torch.Tensor, length: int, adapters: list[str | None]) -> None:
        self.engine = engine
        self.pads = pads
        self.padded = bool(pads.any())
        self.length = length
        self.adapters = adapters
        gates = gates_of(engine.network)
        self.split = gates is not None and any(adapter in gates.ranks for adapter in adapters)
        self.speech: np.ndarray | None = None
        self.cache = DynamicCache(config=engine.network.config)

    def predict_speech(self, rows: np.ndarray) -> None:
        """Which rows' next position is speech's; see ``ChannelSession``."""
        self.speech = rows

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        engine = self.engine
        inputs: dict[str, Any] = {"input_ids": ids, "past_key_values": self.cache, "use_cache": True}
        if self.padded:
            slots = torch.arange(self.length, device=ids.device)
            inputs["attention_mask"] = (slots >= self.pads[:, None]).long()
        if "position_ids" in engine.accepts:
            inputs["position_ids"] = positions
        if "logits_to_keep" in engine.accepts:
            inputs["logits_to_keep"] = 1
        speech = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)  # the prompt is text's
        if self.speech is not None:
            speech |= torch.from_numpy(self.speech).to(ids.device)[:, None]
        names = [adapter or "__base__" for adapter in self.adapters]
        with engine.lock, speaking(engine.network, speech, names):
            if engine.model is not engine.network:
                logits = engine.model(adapter_names=names, **inputs).logits
            else:
                logits = engine.network(**inputs).logits
        return logits[:, -1].float()

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        positions = (self.length - self.pads)[:, None]
        self.length += 1
        return self.forward(tokens[:, None], positions)

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        self.cache.batch_select_indices(rows)
        self.pads = self.pads[rows]
        self.padded = bool(self.pads.any())
        self.adapters = [self.adapters[row] for row in rows.tolist()]

    def repeat(self, copies: int) -> None:
        self.cache.batch_repeat_interleave(copies)
        self.pads = self.pads.repeat_interleave(copies)
        self.adapters = [adapter for adapter in self.adapters for _ in range(copies)]
