"""The fast engine: small Llama and Qwen2 models in float32 on a CPU, with the logits of transformers.

A few rows at a time are bound by reading the weights, then by the overhead of many small operations. So: weights that
are exactly representable in half precision (a checkpoint stored in float16) are read as halves and multiplied as
floats, which is the same numbers at half the traffic; q, k, v and gate, up are one product each; the attention scale
is folded in; the cache is allocated once and only its filled part is read; only the last position is projected.
Adapters stay a low-rank term on their own rows, so one set of packed weights serves all of them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from wavalign.models.engine import left_padded
from wavalign.models.packed import Linear, pack

MODEL_TYPES = ("llama", "qwen2")
LARGEST = 200_000_000
"""Parameters; beyond it the products dominate and a second copy of the weights is not worth its memory."""


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

    def add(self, x: torch.Tensor, out: torch.Tensor) -> None:
        out.addmm_(x @ self.down, self.up)


class FastLlama:
    """An ``Engine``. Follows in-place changes of the model's parameters (training) through their version counters."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.network = model.get_base_model() if hasattr(model, "peft_config") else model
        config = self.network.config
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads or self.heads
        self.width = config.hidden_size
        self.head_width = getattr(config, "head_dim", None) or self.width // self.heads
        self.inner = config.intermediate_size
        self.epsilon = config.rms_norm_eps
        self.context = config.max_position_embeddings
        self._packed_from: tuple[int, ...] = ()
        self._adapters: dict[str, tuple[tuple[int, ...], list[dict[str, LowRank]]]] = {}
        self._lock = threading.Lock()
        with torch.no_grad():
            positions = torch.arange(self.context)[None]
            cos, sin = self.network.model.rotary_emb(torch.zeros(1, 1, self.width), positions)
        half = self.head_width // 2
        self.cos = cos[0].float().contiguous()
        self.sin = torch.cat([-sin[0, :, :half], sin[0, :, half:]], dim=-1).float().contiguous()

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether this engine is exact for ``model``; otherwise the generic one is."""
        network = model.get_base_model() if hasattr(model, "peft_config") else model
        config = network.config
        parameters = list(network.parameters())
        return (
            config.model_type in MODEL_TYPES
            and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
            and sum(p.numel() for p in parameters) <= LARGEST
            and config.hidden_act == "silu"
            and (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") == "default"
            and not getattr(config, "use_sliding_window", False)
            and not getattr(config, "attention_bias", False)
            and not getattr(config, "mlp_bias", False)
            and _only_plain_lora(network)
        )

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def _pack(self) -> None:
        """Packs the weights, again only when they have changed."""
        blocks = self.network.model.layers
        weights = [p for name, p in self.network.named_parameters() if "lora_" not in name]
        versions = tuple(p._version for p in weights)
        with self._lock:
            if versions == self._packed_from:
                return
            self.layers = [self._packed_layer(block) for block in blocks]
            head = _plain(self.network.lm_head)
            self.head = pack(head.weight, head.bias)
            self.final_norm = self.network.model.norm.weight.detach()
            self.embedding = self.network.model.embed_tokens.weight.detach()
            self._packed_from = versions

    def _packed_layer(self, block: nn.Module) -> Layer:
        attention, mlp = block.self_attn, block.mlp
        scale = 1 / math.sqrt(self.head_width)
        q, k, v = (_plain(getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj"))
        weight = torch.cat([q.weight * scale, k.weight, v.weight])
        bias = None if q.bias is None else torch.cat([q.bias * scale, k.bias, v.bias])
        return Layer(
            attention_norm=block.input_layernorm.weight.detach(),
            qkv=pack(weight, bias),
            out=pack(_plain(attention.o_proj).weight, _plain(attention.o_proj).bias),
            mlp_norm=block.post_attention_layernorm.weight.detach(),
            gate_up=pack(torch.cat([_plain(mlp.gate_proj).weight, _plain(mlp.up_proj).weight]), None),
            down=pack(_plain(mlp.down_proj).weight, None),
        )

    def _low_rank(self, adapter: str) -> list[dict[str, LowRank]]:
        """The adapter's terms, one dict a layer, keyed like ``Layer``; made again when its weights have changed."""
        mark = f".{adapter}."
        versions = tuple(
            number for name, p in self.network.named_parameters() if mark in name for number in (id(p), p._version)
        )
        if not versions:
            raise KeyError(f'No adapter "{adapter}" is attached to this model.')
        with self._lock:
            known = self._adapters.get(adapter)
            if known is None or known[0] != versions:
                layers = [self._low_rank_layer(block, adapter) for block in self.network.model.layers]
                known = self._adapters[adapter] = (versions, layers)
            return known[1]

    def _low_rank_layer(self, block: nn.Module, adapter: str) -> dict[str, LowRank]:
        attention, mlp = block.self_attn, block.mlp
        scale = 1 / math.sqrt(self.head_width)
        parts = {
            "qkv": ([attention.q_proj, attention.k_proj, attention.v_proj], [scale, 1, 1]),
            "out": ([attention.o_proj], [1]),
            "gate_up": ([mlp.gate_proj, mlp.up_proj], [1, 1]),
            "down": ([mlp.down_proj], [1]),
        }
        terms = {name: _stacked(modules, scales, adapter) for name, (modules, scales) in parts.items()}
        terms = {name: term for name, term in terms.items() if term is not None}
        return terms

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[FastSession, torch.Tensor]:
        self._pack()
        ids, pads, mask = left_padded(prompts, 0, self.device)
        session = FastSession(self, list(adapters), ids.shape[1], pads, ids.shape[1] + room)
        logits = session.read(ids, mask)
        if copies > 1:
            session.select(torch.arange(len(prompts)).repeat_interleave(copies))
            logits = logits.repeat_interleave(copies, dim=0)
        return session, logits


class FastSession:
    """``keys`` and ``values``: (layers, B * kv heads, slots, head width); prompts are left-padded to one length."""

    def __init__(
        self, engine: FastLlama, adapters: list[str | None], length: int, pads: torch.Tensor, slots: int
    ) -> None:
        self.engine = engine
        self.layers = engine.layers
        self.length = length
        self.slots = slots
        self.pads = pads
        self.adapters = adapters
        self._settle()

    def _settle(self) -> None:
        """What follows from ``adapters`` and ``pads``: the rows of each adapter, and the mask over padded slots."""
        self.spans: list[tuple[int, int, list[dict[str, LowRank]]]] = []
        start = 0
        for index in range(1, len(self.adapters) + 1):
            if index == len(self.adapters) or self.adapters[index] != self.adapters[start]:
                adapter = self.adapters[start]
                if adapter is not None:
                    self.spans.append((start, index, self.engine._low_rank(adapter)))
                start = index
        self.mask = None
        if bool(self.pads.any()):
            hidden = torch.arange(self.slots) < self.pads[:, None]
            mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
            self.mask = mask.repeat_interleave(self.engine.kv_heads, dim=0)[:, None]  # (B * kv heads, 1, slots)

    def read(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The prompts (P, L) into the cache; returns the logits (P, V) after them."""
        e = self.engine
        rows, length = ids.shape
        shape = (len(self.layers), rows * e.kv_heads, self.slots, e.head_width)
        self.keys, self.values = torch.empty(shape), torch.empty(shape)
        positions = (torch.arange(length) - self.pads[:, None]).clamp_(min=0)
        cos, sin = e.cos[positions][:, :, None], e.sin[positions][:, :, None]  # (P, L, 1, D)
        allowed = None
        if mask is not None:
            causal = torch.ones(length, length, dtype=torch.bool).tril_()
            # A pad sees itself, so that its softmax is a number; nobody sees it.
            allowed = (causal & mask[:, None]) | torch.eye(length, dtype=torch.bool)
            allowed = allowed[:, None]
        spans = [(start * length, stop * length, terms) for start, stop, terms in self.spans]
        turned = e.heads + e.kv_heads
        x = F.embedding(ids, e.embedding).reshape(rows * length, e.width)
        for index, layer in enumerate(self.layers):
            h = _normed(x, layer.attention_norm, e)
            qkv = layer.qkv(h)
            _adapt(spans, index, "qkv", h, qkv)
            qkv = qkv.view(rows, length, turned + e.kv_heads, e.head_width)
            _rotate(qkv[:, :, :turned], cos, sin)
            heads = qkv.transpose(1, 2)
            k, v = heads[:, e.heads : turned], heads[:, turned:]
            self.keys[index, :, :length].view(rows, e.kv_heads, length, e.head_width).copy_(k)
            self.values[index, :, :length].view(rows, e.kv_heads, length, e.head_width).copy_(v)
            a = F.scaled_dot_product_attention(
                heads[:, : e.heads], k, v, attn_mask=allowed, is_causal=allowed is None, scale=1.0,
                enable_gqa=e.heads != e.kv_heads,
            )  # fmt: skip
            a = a.transpose(1, 2).reshape(rows * length, e.heads * e.head_width)
            x = self._after_attention(layer, index, a, x, spans)
        return e.head(_normed(x.view(rows, length, e.width)[:, -1], e.final_norm, e))

    @torch.inference_mode()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        e = self.engine
        rows, slot = len(tokens), self.length
        if self.mask is None:
            cos, sin = e.cos[slot], e.sin[slot]
        else:
            positions = slot - self.pads
            cos, sin = e.cos[positions][:, None], e.sin[positions][:, None]
        mask = None if self.mask is None else self.mask[:, :, : slot + 1]
        turned, spans = e.heads + e.kv_heads, self.spans
        group = e.heads // e.kv_heads
        x = F.embedding(tokens, e.embedding)
        for index, layer in enumerate(self.layers):
            h = _normed(x, layer.attention_norm, e)
            qkv = layer.qkv(h)
            _adapt(spans, index, "qkv", h, qkv)
            qkv = qkv.view(rows, turned + e.kv_heads, e.head_width)
            _rotate(qkv[:, :turned], cos, sin)
            keys, values = self.keys[index], self.values[index]
            keys[:, slot] = qkv[:, e.heads : turned].reshape(rows * e.kv_heads, e.head_width)
            values[:, slot] = qkv[:, turned:].reshape(rows * e.kv_heads, e.head_width)
            q = qkv[:, : e.heads].reshape(rows * e.kv_heads, group, e.head_width)
            seen = keys[:, : slot + 1].transpose(1, 2)
            scores = torch.bmm(q, seen) if mask is None else torch.baddbmm(mask, q, seen)
            a = torch.bmm(torch.softmax(scores, -1), values[:, : slot + 1])
            x = self._after_attention(layer, index, a.view(rows, e.heads * e.head_width), x, spans)
        self.length += 1
        return e.head(_normed(x, e.final_norm, e))

    def _after_attention(self, layer: Layer, index: int, a: torch.Tensor, x: torch.Tensor, spans: list) -> torch.Tensor:
        e = self.engine
        x = layer.out(a).add_(x)
        _adapt(spans, index, "out", a, x)
        h = _normed(x, layer.mlp_norm, e)
        gate_up = layer.gate_up(h)
        _adapt(spans, index, "gate_up", h, gate_up)
        inner = F.silu(gate_up[:, : e.inner]).mul_(gate_up[:, e.inner :])
        x = layer.down(inner).add_(x)
        _adapt(spans, index, "down", inner, x)
        return x

    @torch.inference_mode()
    def keep(self, rows: torch.Tensor) -> None:
        self.select(rows)

    def select(self, rows: torch.Tensor) -> None:
        """Rows in this order, repeated or dropped; only the filled part of the cache is copied."""
        e = self.engine
        old = len(self.adapters)
        self.adapters = [self.adapters[row] for row in rows.tolist()]
        self.pads = self.pads[rows]
        for name in ("keys", "values"):
            full = getattr(self, name)
            new = torch.empty(len(self.layers), len(rows) * e.kv_heads, self.slots, e.head_width)
            by_row = full.view(len(self.layers), old, e.kv_heads, self.slots, e.head_width)[:, :, :, : self.length]
            new[:, :, : self.length] = by_row[:, rows].flatten(1, 2)
            setattr(self, name, new)
        self._settle()


def _normed(x: torch.Tensor, weight: torch.Tensor, engine: FastLlama) -> torch.Tensor:
    square = torch.linalg.vecdot(x, x)
    return (x * torch.rsqrt_(square.mul_(1 / engine.width).add_(engine.epsilon)).unsqueeze_(-1)).mul_(weight)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotary embedding in place; ``sin`` carries the sign of the swapped halves."""
    swapped = x.roll(x.shape[-1] // 2, -1)
    x.mul_(cos).addcmul_(swapped, sin)


def _adapt(spans: list, index: int, name: str, x: torch.Tensor, out: torch.Tensor) -> None:
    for start, stop, terms in spans:
        term = terms[index].get(name)
        if term is not None:
            term.add(x[start:stop], out[start:stop])


def _plain(module: nn.Module) -> nn.Linear:
    return getattr(module, "base_layer", module)


def _only_plain_lora(network: nn.Module) -> bool:
    """Whether every adapter is a plain low-rank term on the layers' projections."""
    for name, module in network.named_modules():
        if not hasattr(module, "base_layer"):
            if type(module).__module__.startswith("peft.") and hasattr(module, "modules_to_save"):
                return False
            continue
        plain = (
            isinstance(module.base_layer, nn.Linear)
            and hasattr(module, "lora_A")
            and ".layers." in name
            and not getattr(module, "merged_adapters", [])
            and not any(getattr(module, "lora_variant", {}).values())
            and not any(getattr(module, "lora_bias", {}).values())
            and not getattr(module, "lora_embedding_A", {})
        )
        if not plain:
            return False
    return True


def _stacked(modules: Sequence[nn.Module], scales: Sequence[float], adapter: str) -> LowRank | None:
    """One low-rank term for projections that are computed as one product."""
    downs, ups = [], []
    for module, scale in zip(modules, scales, strict=True):
        width = _plain(module).out_features
        if hasattr(module, "lora_A") and adapter in module.lora_A:
            down, up = module.lora_A[adapter].weight, module.lora_B[adapter].weight * (module.scaling[adapter] * scale)
        else:
            down, up = _plain(module).weight.new_zeros(0, _plain(module).in_features), None
        downs.append(down)
        ups.append((len(down), width, up))
    rank = sum(len(down) for down in downs)
    if rank == 0:
        return None
    full = downs[0].new_zeros(rank, sum(width for _, width, _ in ups))
    row = column = 0
    for height, width, up in ups:
        if up is not None:
            full[row : row + height, column : column + width] = up.detach().t()
        row, column = row + height, column + width
    return LowRank(torch.cat([down.detach() for down in downs]).t().contiguous(), full)
