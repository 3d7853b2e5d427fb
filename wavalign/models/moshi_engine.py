"""What the decoding loop runs: a step of time, then the codes of its column, each row with its own adapter."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from wavalign.models.moshi_network import MoshiNetwork
from wavalign.models.parallel_tokens import ParallelTokens

_BASE = "__base__"  # PEFT's name for rows without an adapter


class MoshiEngine:
    """An ``Engine``; ``model`` is the network, or the PEFT model around it. ``lock`` is held for every forward."""

    def __init__(self, network: MoshiNetwork, tokens: ParallelTokens, lock: threading.RLock) -> None:
        self.model: Any = network
        self.network = network
        self.tokens = tokens
        self.lock = lock

    @property
    def device(self) -> torch.device:
        return self.network.device

    def weights_changed(self, adapter: str | None) -> None:
        """The model's own modules are what runs: there is nothing to forget."""

    def run(self, adapters: Sequence[str | None], call: str, **inputs: Any) -> torch.Tensor:
        """A forward in which row i runs with ``adapters[i]``."""
        with self.lock:
            if self.model is self.network:
                return self.network(call=call, **inputs)
            return self.model(adapter_names=[each or _BASE for each in adapters], call=call, **inputs)

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[MoshiSession, torch.Tensor]:
        """Reads the prompts, each once; see ``Engine``."""
        session = MoshiSession(self, prompts, adapters)
        session.repeat(copies)
        return session, session.text_logits()


class MoshiSession:
    """A ``Session``; all rows are at the same place of the same column, because nothing is ever left out."""

    def __init__(self, engine: MoshiEngine, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None]) -> None:
        self.engine = engine
        self.network, self.ids = engine.network, engine.network.ids
        self.adapters = list(adapters)
        frames = [self.ids.frames(prompt) for prompt in prompts]
        read = [self.network.delayed(each) for each in frames]
        longest = max(map(len, read))
        padded = np.stack([np.pad(each, ((longest - len(each), 0), (0, 0))) for each in read])
        self.pads = torch.tensor([longest - len(each) for each in read], device=engine.device)
        self.padded = bool(self.pads.any())  # asked once: the answer makes a GPU wait
        self.cache = DynamicCache()
        self.length = 0
        self.hidden = self._step(torch.from_numpy(padded).to(engine.device))
        self.depth: DynamicCache | None = None
        self.column: list[torch.Tensor] = []
        # Acoustic codes (B, books - 1) of the prompt's last frame, own and the user's, come with the first column.
        late = ([each.own[-1, 1:] for each in frames], [each.user[-1, 1:] for each in frames])
        self.late: tuple[torch.Tensor, ...] | None = tuple(
            torch.from_numpy(np.stack(codes)).to(engine.device) for codes in late
        )
        self.silence = torch.from_numpy(self.network.silence).to(engine.device)

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """The place's token (B,) of each row to the logits (B, V) of the next; see ``Session``."""
        ids, place = self.ids, len(self.column)
        local = tokens if place == 0 else tokens - (ids.speech_start + (place - 1) * ids.codes)
        self.column.append(local)
        if place == ids.books or (place == 1 and self.late is not None):
            self._close()
            return self.text_logits()
        if place == 0:
            self.depth = DynamicCache()
        run = self.engine.run
        logits = run(self.adapters, "codes", hidden=self.hidden, tokens=local[:, None], first=place, cache=self.depth)[
            :, -1
        ]
        return self.engine.tokens.spread(logits.float(), ids.speech_start + place * ids.codes)

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but these; see ``Session``."""
        self.cache.batch_select_indices(rows)
        if self.depth is not None:
            self.depth.batch_select_indices(rows)
        self.pads, self.hidden = self.pads[rows], self.hidden[rows]
        self.adapters = [self.adapters[row] for row in rows.tolist()]
        self.column = [tokens[rows] for tokens in self.column]
        if self.late is not None:
            self.late = tuple(codes[rows] for codes in self.late)

    def repeat(self, copies: int) -> None:
        """Makes ``copies`` rows of each."""
        if copies == 1:
            return
        self.cache.batch_repeat_interleave(copies)
        self.pads, self.hidden = (each.repeat_interleave(copies, 0) for each in (self.pads, self.hidden))
        self.adapters = [adapter for adapter in self.adapters for _ in range(copies)]
        if self.late is not None:
            self.late = tuple(codes.repeat_interleave(copies, 0) for codes in self.late)

    def text_logits(self) -> torch.Tensor:
        """Logits (B, V) of the next column's text token."""
        with self.engine.lock:
            logits = self.network.decoder.lm_head(self.hidden).float()
        return self.engine.tokens.spread(logits, 0)

    def _close(self) -> None:
        """The column is whole: the backbone reads it."""
        text, first, *rest = self.column
        silence = self.silence.expand(len(text), -1)
        late = (torch.stack(rest, 1), silence[:, 1:]) if self.late is None else self.late
        column = torch.cat([text[:, None], first[:, None], late[0], silence[:, :1], late[1]], 1)
        self.column, self.late, self.depth = [], None, None
        self.hidden = self._step(column[:, None])

    def _step(self, columns: torch.Tensor) -> torch.Tensor:
        """Hidden states (B, H) after columns (B, L, 1 + 2 books)."""
        slots = torch.arange(self.length, self.length + columns.shape[1], device=columns.device)
        self.length += columns.shape[1]
        positions = (slots - self.pads[:, None]).clamp(min=0)
        mask = None
        if self.padded:
            mask = (torch.arange(self.length, device=columns.device) >= self.pads[:, None]).long()
        with self.engine.lock:  # embeddings are never adapted
            embeds = self.network.embedded(columns)
        inputs = {"embeds": embeds, "positions": positions, "mask": mask, "cache": self.cache}
        return self.engine.run(self.adapters, "step", **inputs)[:, -1]
