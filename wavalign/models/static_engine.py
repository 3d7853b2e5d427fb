"""Decoding over a cache that is allocated once: for a GPU, where starting a step's kernels takes longer than they run.

``WAVALIGN_DECODING`` chooses: ``plain`` (the generic engine, the default), ``static`` (tensors of a step keep their
shape and place, and on a GPU its kernels are recorded as one CUDA graph and replayed), ``compiled`` (the same after
torch.compile). Rows that are done stay in the batch, because its shape is what was recorded. Batches in which rows have
different adapters are decoded the plain way: PEFT sorts their rows anew in every layer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StaticCache

from wavalign.models.channel_adapters import gates_of
from wavalign.models.engine import Session
from wavalign.models.hf_engine import HfEngine, HfSession
from wavalign.models.protocol import CheckpointError
from wavalign.models.scoring import active

log = logging.getLogger(__name__)
_told: set[tuple[str, str]] = set()
VARIABLE = "WAVALIGN_DECODING"
CHOICES = ("plain", "static", "compiled")
_SLOTS = 64
"""Caches are as long as a multiple of this, so that few shapes are compiled."""


def chosen() -> str:
    """Raises:
    CheckpointError: when the host asked for something that is not known.
    """
    asked = os.environ.get(VARIABLE) or "plain"
    if asked not in CHOICES:
        raise CheckpointError(f"{VARIABLE} is {asked!r}; choose one of {', '.join(CHOICES)}.")
    return asked


def unused(by: str) -> None:
    """Says in the log, once for each ``by``, that what the host asked for is not used by such checkpoints."""
    asked = os.environ.get(VARIABLE) or "plain"
    if asked != "plain" and (asked, by) not in _told:
        _told.add((asked, by))
        log.warning("%s=%s is not used by %s: they are decoded as without it.", VARIABLE, asked, by)


class StaticEngine(HfEngine):
    """An ``Engine``. ``backend`` is torch.compile's, None where nothing is compiled."""

    def __init__(self, model: Any, lock: Any = None, backend: str | None = None) -> None:
        super().__init__(model, lock)
        self.step: Callable[..., torch.Tensor] = self._step
        if backend is not None:
            self.step = torch.compile(self._step, fullgraph=True, dynamic=False, backend=backend)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a step of ``model`` can run over such a cache, with a mask and positions of ours."""
        network = model.get_base_model() if hasattr(model, "peft_config") else model
        config = network.config
        return (
            bool(getattr(network, "_can_compile_fullgraph", False))
            and not getattr(config, "use_sliding_window", False)
            and not set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
            and getattr(config, "_attn_implementation", "") in ("sdpa", "eager")
        )

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[Session, torch.Tensor]:
        session, logits = super().start(prompts, adapters, copies, room)
        gates = gates_of(self.network)
        if len(set(adapters)) > 1 or (gates is not None and adapters[0] in gates.ranks):
            unused("batches with several adapters or one for each channel")
            return session, logits
        return StaticSession(self, session, room), logits

    def _step(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: StaticCache) -> torch.Tensor:
        out = self.network(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()


class StaticSession:
    """A ``Session`` of rows with one adapter. ``ids`` (B, 1), ``positions`` (B, 1) and the additive ``mask``
    (B, 1, 1, slots) are written in place before each step; ``rows`` are those that are still wanted."""

    def __init__(self, engine: StaticEngine, read: HfSession, room: int) -> None:
        self.engine = engine
        self.adapter = read.adapters[0]
        self.length = read.length
        count, device = len(read.adapters), engine.device
        slots = -(-(read.length + room) // _SLOTS) * _SLOTS
        dtype = next(engine.network.parameters()).dtype
        self.cache = _static(engine.network.config, read, slots)
        self.ids = torch.zeros(count, 1, dtype=torch.long, device=device)
        self.positions = (read.length - 1 - read.pads)[:, None].clone()
        columns = torch.arange(slots, device=device)
        seen = (columns >= read.pads[:, None]) & (columns < read.length)
        self.mask = torch.zeros(count, 1, 1, slots, dtype=dtype, device=device)
        self.mask.masked_fill_(~seen[:, None, None], -torch.inf)
        self.rows: torch.Tensor | None = None
        self._replay: Callable[[], torch.Tensor] | None = None

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.rows is None:
            self.ids[:, 0] = tokens
        else:
            self.ids[self.rows, 0] = tokens
        self.positions += 1
        self.mask[..., self.length] = 0
        self.length += 1
        logits = self._forward()
        return logits if self.rows is None else logits[self.rows]

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        self.rows = rows if self.rows is None else self.rows[rows]

    def _forward(self) -> torch.Tensor:
        if self._replay is not None:
            return self._replay()
        engine = self.engine
        with engine.lock, active(engine.model, self.adapter):
            logits = engine.step(self.ids, self.positions, self.mask, self.cache)
            if engine.device.type == "cuda":
                self._replay = self._recorded()
        return logits

    def _recorded(self) -> Callable[[], torch.Tensor]:
        """Records a step as a CUDA graph. Recording runs nothing, so the cache stays as the first step left it."""
        engine, graph = self.engine, torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            logits = engine.step(self.ids, self.positions, self.mask, self.cache)

        def replay() -> torch.Tensor:
            graph.replay()
            return logits.clone()  # the next replay writes over it

        return replay


def _static(config: Any, read: HfSession, slots: int) -> StaticCache:
    """A cache of ``slots`` that begins with what ``read`` has read."""
    cache = StaticCache(config=config, max_cache_len=slots)
    for layer, known in zip(cache.layers, read.cache.layers, strict=True):
        layer.lazy_initialization(known.keys, known.values)
        layer.keys[:, :, : read.length] = known.keys
        layer.values[:, :, : read.length] = known.values
        layer.cumulative_length.fill_(read.length)
    return cache
