"""The fast engine's forward passes over one batch: reading prompts, then one token at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from wavalign.models.packed import Linear
from wavalign.models.shared_prompts import SharedPrompts

if TYPE_CHECKING:
    from wavalign.models.fast_llama import FastLlama

_TOKENS_AT_ONCE = 256
"""Prompts are read in groups of about so many tokens, whose activations stay in the processor's cache."""

_MANY_HEADS = 32


@dataclass
class Layer:
    attention_norm: torch.Tensor
    qkv: Linear
    out: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear


@dataclass
class LowRank:
    """``down`` (in, r) then ``up`` (r, out), with the adapter's scale folded in."""

    down: torch.Tensor
    up: torch.Tensor

    def add(self, x: torch.Tensor, out: torch.Tensor, share: torch.Tensor | None) -> None:
        """``share`` (n, 1) scales each row's term; None: 1."""
        inner = x @ self.down
        out.addmm_(inner if share is None else inner.mul_(share), self.up)


@dataclass(frozen=True)
class Terms:
    """An adapter's terms, one dict a layer, keyed like ``Layer``.

    ``speech`` is None where one adapter serves all positions; otherwise ``text`` is active at text's positions (the
    prompt's among them) and ``speech`` at speech's.
    """

    text: list[dict[str, LowRank]]
    speech: list[dict[str, LowRank]] | None = None


@dataclass(frozen=True)
class Span:
    """Rows ``start`` to ``stop`` carry an adapter; ``share`` (rows, 1) is how much of ``terms`` each takes."""

    start: int
    stop: int
    terms: list[dict[str, LowRank]]
    share: torch.Tensor | None = None


class FastSession:
    """``cache`` (layers, 2, B, kv heads, slots, head width): keys and values. Prompts are left-padded to one length.

    ``prompts`` holds the prompts' part of the cache once rows share it; slots then count from ``start``.
    """

    def __init__(
        self, engine: FastLlama, adapters: list[str | None], pads: torch.Tensor, length: int, slots: int
    ) -> None:
        self.engine = engine
        self.layers = engine.layers
        self.length = length
        self.slots = slots
        self.start = 0
        self.prompts: SharedPrompts | None = None
        self.pads = pads
        self.adapters = adapters
        self.cache = self._new_cache(len(adapters))
        self._settle()

    def _new_cache(self, rows: int) -> torch.Tensor:
        e = self.engine
        return torch.empty(len(self.layers), 2, rows, e.kv_heads, self.slots, e.head_width)

    def _settle(self) -> None:
        """What follows from ``adapters``, ``pads`` and ``cache``: spans, the mask over pads, views of the cache.

        ``spans`` are those of text's positions until ``predict_speech`` says more.
        """
        self.spans: list[Span] = []
        self.speech_terms: dict[tuple[int, int], list[dict[str, LowRank]]] = {}
        start = 0
        for index in range(1, len(self.adapters) + 1):
            if index == len(self.adapters) or self.adapters[index] != self.adapters[start]:
                adapter = self.adapters[start]
                if adapter is not None:
                    terms = self.engine.low_rank(adapter)
                    self.spans.append(Span(start, index, terms.text))
                    if terms.speech is not None:
                        self.speech_terms[start, index] = terms.speech
                start = index
        self.split = bool(self.speech_terms)
        self.text_spans = self.spans
        self.mask = None
        self.padded = bool(self.pads.any())
        if self.padded and self.prompts is None:
            hidden = torch.arange(self.slots) < self.pads[:, None]
            mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
            self.mask = mask.repeat_interleave(self.engine.kv_heads, dim=0)[:, None]  # (B * kv heads, 1, slots)
        # For each layer: where a step's keys and values go, and both as bmm reads them.
        self.views = [
            (layer.permute(1, 0, 2, 3, 4), layer[0].flatten(0, 1), layer[1].flatten(0, 1)) for layer in self.cache
        ]

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        """The prompts (P, L), left-padded, into the cache; returns the logits (P, V) after them."""
        if self.mask is not None:  # slots under pads are masked, but what is not a number would pass through
            self.cache[:, :, :, :, : self.length] = 0
        size = max(1, _TOKENS_AT_ONCE // ids.shape[1])
        last = [self._read_rows(ids, start, min(start + size, len(ids))) for start in range(0, len(ids), size)]
        return self.engine.head.multiply(_normed(torch.cat(last), self.engine.final_norm, self.engine))

    def _read_rows(self, ids: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Rows ``start`` to ``stop`` of the prompts; returns their last hidden states."""
        e = self.engine
        pads = self.pads[start:stop]
        first = int(pads.min())
        ids = ids[start:stop, first:]
        rows, length = ids.shape
        columns = torch.arange(first, first + length)
        positions = (columns - pads[:, None]).clamp_(min=0)
        cos, sin = e.cos[positions][:, :, None], e.sin[positions][:, :, None]  # (rows, length, 1, head width)
        allowed = None
        if bool((pads > first).any()):
            causal = torch.ones(length, length, dtype=torch.bool).tril_()
            seen = columns >= pads[:, None]
            # A pad sees itself, so that its softmax is a number; nobody sees it.
            allowed = ((causal & seen[:, None]) | torch.eye(length, dtype=torch.bool))[:, None]
        spans = [
            Span(max(s.start, start) - start, min(s.stop, stop) - start, s.terms)
            for s in self.spans
            if s.start < stop and s.stop > start
        ]
        wide = [Span(s.start * length, s.stop * length, s.terms) for s in spans]
        turned = e.heads + e.kv_heads
        grouped = e.heads != e.kv_heads
        x = F.embedding(ids, e.embedding).view(rows * length, e.width)
        for index, layer in enumerate(self.layers):
            h = _normed(x, layer.attention_norm, e)
            qkv = layer.qkv.multiply(h)
            _adapt(wide, index, "qkv", h, qkv)
            qkv = qkv.view(rows, length, turned + e.kv_heads, e.head_width)
            _rotate(qkv[:, :, :turned], cos, sin)
            q, k, v = qkv.transpose(1, 2).split([e.heads, e.kv_heads, e.kv_heads], dim=1)
            slots = slice(first, first + length)
            self.cache[index, 0, start:stop, :, slots] = k
            self.cache[index, 1, start:stop, :, slots] = v
            if index + 1 < len(self.layers):
                a = F.scaled_dot_product_attention(
                    q, k, v, attn_mask=allowed, is_causal=allowed is None, enable_gqa=grouped
                )
                a = a.transpose(1, 2).reshape(rows * length, e.heads * e.head_width)
                x = self._after_attention(layer, index, a, x, wide)
            else:  # nothing above the last layer looks at any but the last position
                mask = None if allowed is None else allowed[:, :, -1:]
                a = F.scaled_dot_product_attention(q[:, :, -1:], k, v, attn_mask=mask, enable_gqa=grouped)
                x = x.view(rows, length, e.width)[:, -1].contiguous()
                x = self._after_attention(layer, index, a.reshape(rows, e.heads * e.head_width), x, spans)
        return x

    def predict_speech(self, rows: np.ndarray) -> None:
        """Chooses each row's adapter for the next step; see ``ChannelSession``."""
        self.spans = []
        for span in self.text_spans:
            speech = self.speech_terms.get((span.start, span.stop))
            own = rows[span.start : span.stop]
            if speech is None or not own.any():
                self.spans.append(span)
            elif own.all():
                self.spans.append(Span(span.start, span.stop, speech))
            else:
                share = torch.from_numpy(own.astype(np.float32))[:, None]
                self.spans.append(Span(span.start, span.stop, span.terms, 1 - share))
                self.spans.append(Span(span.start, span.stop, speech, share))

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        e = self.engine
        rows, slot = len(tokens), self.length - self.start
        if self.padded:
            positions = self.length - self.pads
            cos, sin = e.cos[positions][:, None], e.sin[positions][:, None]
        else:
            cos, sin = e.cos[self.length], e.sin[self.length]
        mask = None if self.mask is None else self.mask[:, :, : slot + 1]
        turned, spans = e.heads + e.kv_heads, self.spans
        queries = (rows * e.kv_heads, e.heads // e.kv_heads, e.head_width)
        scale = 1 / math.sqrt(e.head_width)
        x = F.embedding(tokens, e.embedding)
        for index, layer in enumerate(self.layers):
            h = _normed(x, layer.attention_norm, e)
            qkv = layer.qkv.multiply(h)
            _adapt(spans, index, "qkv", h, qkv)
            qkv = qkv.view(rows, turned + e.kv_heads, e.head_width)
            _rotate(qkv[:, :turned], cos, sin)
            into, keys, values = self.views[index]
            into[:, :, :, slot] = qkv[:, e.heads :].view(rows, 2, e.kv_heads, e.head_width)
            q = qkv[:, : e.heads].reshape(queries)
            keys, values = keys[:, : slot + 1], values[:, : slot + 1]
            if self.prompts is None:
                a = _attended(q, keys, values, mask, scale)
            else:
                a = self._merged(index, q, keys, values, scale)
            x = self._after_attention(layer, index, a.view(rows, e.heads * e.head_width), x, spans)
        self.length += 1
        return e.head.multiply(_normed(x, e.final_norm, e))

    def _merged(
        self, index: int, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attention to the shared prompt and to the row's own part as if they were one: (B * kv heads, g, d)."""
        e = self.engine
        before, mass = self.prompts.attended(index, q.view(-1, e.kv_heads, q.shape[1], e.head_width), scale)
        scores = torch.baddbmm(q.new_zeros(()), q, keys.transpose(1, 2), beta=0, alpha=scale)
        own_mass = scores.logsumexp(-1, keepdim=True)
        own = torch.bmm((scores - own_mass).exp_(), values)
        share = torch.sigmoid(mass.reshape(own_mass.shape) - own_mass)
        return own.lerp_(before.reshape(own.shape), share.expand_as(own))

    def _after_attention(
        self, layer: Layer, index: int, a: torch.Tensor, x: torch.Tensor, spans: list[Span]
    ) -> torch.Tensor:
        inner = self.engine.inner
        x = layer.out.multiply(a).add_(x)
        _adapt(spans, index, "out", a, x)
        h = _normed(x, layer.mlp_norm, self.engine)
        gate_up = layer.gate_up.multiply(h)
        _adapt(spans, index, "gate_up", h, gate_up)
        activated = F.silu(gate_up[:, :inner]).mul_(gate_up[:, inner:])
        x = layer.down.multiply(activated).add_(x)
        _adapt(spans, index, "down", activated, x)
        return x

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        """Drops all rows but these; only the filled part of the cache is copied."""
        self.adapters = [self.adapters[row] for row in rows.tolist()]
        self.pads = self.pads[rows]
        if self.prompts is not None:
            self.prompts.keep(rows)
        filled = self.length - self.start
        old, self.cache = self.cache, self._new_cache(len(rows))
        self.cache[:, :, :, :, :filled] = old[:, :, :, :, :filled][:, :, rows]
        self._settle()

    def share(self, copies: int) -> None:
        """Makes ``copies`` rows of each prompt that was read; they share its part of the cache."""
        hidden = torch.arange(self.length) < self.pads[:, None] if self.padded else None
        filled = self.cache[:, :, :, :, : self.length].contiguous()
        self.prompts = SharedPrompts(filled, hidden, copies)
        self.adapters = [adapter for adapter in self.adapters for _ in range(copies)]
        self.pads = self.pads.repeat_interleave(copies)
        self.slots -= self.length
        self.start = self.length
        self.cache = self._new_cache(len(self.adapters))
        self._settle()


def _normed(x: torch.Tensor, weight: torch.Tensor, engine: FastLlama) -> torch.Tensor:
    square = torch.linalg.vecdot(x, x)
    return (x * torch.rsqrt_(square.mul_(1 / engine.width).add_(engine.epsilon)).unsqueeze_(-1)).mul_(weight)


def _attended(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> torch.Tensor:
    """One query position: q (n, g, d), keys and values (n, t, d), mask (n, 1, t) added; gives (n, g, d)."""
    beta = 0 if mask is None else 1
    if q.shape[1] > 1 or len(q) < _MANY_HEADS:
        mask = q.new_zeros(()) if mask is None else mask
        scores = torch.baddbmm(mask, q, keys.transpose(1, 2), beta=beta, alpha=scale)
        return torch.bmm(torch.softmax(scores, -1), values)
    # The caches no longer fit the processor's: these two read memory faster than bmm's matrix-vector products.
    mask = q.new_zeros(()) if mask is None else mask.transpose(1, 2)
    scores = torch.baddbmm(mask, keys, q.transpose(1, 2), beta=beta, alpha=scale)
    return (values * torch.softmax(scores, 1)).sum(1, keepdim=True)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotary embedding in place; ``sin`` carries the sign of the swapped halves."""
    swapped = x.roll(x.shape[-1] // 2, -1)
    x.mul_(cos).addcmul_(swapped, sin)


def _adapt(spans: list[Span], index: int, name: str, x: torch.Tensor, out: torch.Tensor) -> None:
    for span in spans:
        term = span.terms[index].get(name)
        if term is not None:
            term.add(x[span.start : span.stop], out[span.start : span.stop], span.share)
