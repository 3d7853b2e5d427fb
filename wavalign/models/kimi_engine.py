"""What the decoding loop runs on Kimi-Audio: one forward a step of the two streams, one token of the loop at a time.

Rows of a batch do not keep step: where the text has ended only audio is drawn, and before the delay only text. A row
whose step is complete goes on; the others wait meanwhile, with a position in the cache that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from wavalign.models.kimi_network import Cache, Inputs, inputs_of

if TYPE_CHECKING:
    from wavalign.models.kimi_base import KimiBase

_BASE = "__base__"  # PEFT's name for rows without an adapter
_NONE = -1


class KimiEngine:
    """An ``Engine`` over flat completions."""

    def __init__(self, base: KimiBase) -> None:
        self.base = base

    @property
    def device(self) -> torch.device:
        return self.base.network.device

    def weights_changed(self, adapter: str | None) -> None:
        """The network's own modules are what runs: there is nothing to forget."""

    def run(self, adapters: Sequence[str | None], call: str, **inputs: Any) -> Any:
        """A forward in which row i runs with ``adapters[i]``."""
        base = self.base
        with base.lock:
            if base.model is base.network:
                return base.network(call=call, **inputs)
            return base.model(adapter_names=[each or _BASE for each in adapters], call=call, **inputs)

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[KimiSession, torch.Tensor]:
        session = KimiSession(self, [len(prompt) // 2 for prompt in prompts], adapters)
        logits = session.open([inputs_of(prompt) for prompt in prompts])
        if copies > 1:
            session.repeat(copies)
            logits = logits.repeat_interleave(copies, 0)
        return session, logits


class KimiSession:
    """A ``Session``.

    ``next_step`` int64 (B,): the step whose tokens are being drawn; ``text`` and ``audio`` int64 (B,): those of it that
    are there, -1 for none. ``filled`` bool (B, L): positions of the cache that a row has read.
    """

    def __init__(self, engine: KimiEngine, lengths: Sequence[int], adapters: Sequence[str | None]) -> None:
        self.engine = engine
        self.streams = engine.base.streams
        self.adapters = list(adapters)
        self.lengths = np.array(lengths)
        self.next_step = np.zeros(len(lengths), np.int64)
        self.text, self.audio = (np.full(len(lengths), _NONE) for _ in range(2))
        self.text_over, self.over = (np.zeros(len(lengths), bool) for _ in range(2))
        longest = max(lengths)
        filled = torch.arange(longest) >= torch.tensor([longest - length for length in lengths])[:, None]
        self.filled = filled.to(engine.device)
        self.cache: Cache | None = None
        self.logits: list[torch.Tensor] = []

    def open(self, prompts: Sequence[Inputs]) -> torch.Tensor:
        positions = (torch.cumsum(self.filled, 1) - 1).clamp(min=0)
        self._forward("open", positions, rows=prompts)
        return self.logits[0]

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """One token (B,) for each row to the logits (B, V) of the next, by whichever head has its turn."""
        drawn = tokens.cpu().numpy()
        of_text = self._wants_text() & (self.text == _NONE)
        self.text = np.where(of_text, drawn, self.text)
        self.audio = np.where(of_text, self.audio, drawn)
        self.over |= ~of_text & np.isin(drawn, self.streams.marks.ends)
        while (ready := self._complete()).any():
            self._advance(ready)
        turn = torch.from_numpy(self._wants_text() & (self.text == _NONE)).to(self.logits[0].device)
        return torch.where(turn[:, None], *self.logits)

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        kept = rows.cpu().numpy()
        for name in ("lengths", "next_step", "text", "audio", "text_over", "over"):
            setattr(self, name, getattr(self, name)[kept])
        self._picked(lambda tensor: tensor[rows])
        self.adapters = [self.adapters[row] for row in kept]

    def repeat(self, copies: int) -> None:
        for name in ("lengths", "next_step", "text", "audio", "text_over", "over"):
            setattr(self, name, getattr(self, name).repeat(copies))
        self._picked(lambda tensor: tensor.repeat_interleave(copies, 0))
        self.adapters = [adapter for adapter in self.adapters for _ in range(copies)]

    def _picked(self, pick: Any) -> None:
        self.filled = pick(self.filled)
        self.logits = [pick(logits) for logits in self.logits]
        self.cache = tuple(tuple(pick(tensor) for tensor in layer) for layer in self.cache)

    def _wants_text(self) -> np.ndarray:
        return ~self.text_over

    def _complete(self) -> np.ndarray:
        """bool (B,): whether nothing more is drawn in the row's step. Rows that have ended wait for ever."""
        text = self.text_over | (self.text != _NONE)
        audio = (self.next_step < self.streams.delay) | (self.audio != _NONE)
        return text & audio & ~self.over

    def _advance(self, ready: np.ndarray) -> None:
        """The rows that are ``ready`` read their step; the others' logits stay what they were."""
        device, blank = self.engine.device, self.streams.marks.blank
        audio, text = (np.where(each == _NONE, blank, each) for each in (self.audio, self.text))
        columns = torch.from_numpy(np.stack([audio, text])).to(device)
        going = torch.from_numpy(ready).to(device)
        self.filled = torch.cat([self.filled, going[:, None]], 1)
        positions = torch.from_numpy(self.lengths + self.next_step)[:, None].to(device)
        before = self.logits
        self._forward("step", positions, columns=columns, cache=self.cache)
        if not ready.all():
            self.logits = [torch.where(going[:, None], *pair) for pair in zip(self.logits, before, strict=True)]
        self.text_over |= ready & (self.text == self.streams.marks.text_end)
        self.text, self.audio = (np.where(ready, _NONE, each) for each in (self.text, self.audio))
        self.next_step += ready

    def _forward(self, call: str, positions: torch.Tensor, **inputs: Any) -> None:
        mask = None if bool(self.filled.all()) else self.filled.long()
        text, audio, self.cache = self.engine.run(self.adapters, call, positions=positions, mask=mask, **inputs)
        self.logits = [text, audio]
