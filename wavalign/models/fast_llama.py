"""The fast engine: small Llama and Qwen2 models in float32 on a CPU, with the logits of transformers.

A few rows at a time are bound by reading the weights, then by the overhead of many small operations. So: weights that
are exactly representable in half precision (a checkpoint stored in float16) are read as halves and multiplied as
floats, which is the same numbers at half the traffic; q, k, v and gate, up are one product each; the cache is
allocated once and only its filled part is read; only the last position is projected. Adapters stay a low-rank term
on their own rows, so one set of packed weights serves all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from wavalign.models.channel_adapters import gates_of, halves
from wavalign.models.engine import left_padded
from wavalign.models.fast_session import FastSession, Layer, LowRank, Terms
from wavalign.models.packed import pack

MODEL_TYPES = ("llama", "qwen2")
LARGEST = 200_000_000
"""Parameters; beyond it the products dominate and a second copy of the weights is not worth its memory."""


class FastLlama:
    """An ``Engine``. Follows in-place changes of the model's parameters (training) through their version counters.

    Fused optimisers do not count; after such a step, ``weights_changed`` says it.
    """

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
        self._adapters: dict[str, tuple[tuple[int, ...], Terms]] = {}
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
            and type(network.get_input_embeddings()) is nn.Embedding
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

    @property
    def bytes_read(self) -> int:
        """What one step reads of the packed weights, whatever the number of rows."""
        self._pack()
        parts = [part for layer in self.layers for part in (layer.qkv, layer.out, layer.gate_up, layer.down)]
        return sum(part.bytes_read for part in [*parts, self.head])

    def weights_changed(self, adapter: str | None) -> None:
        """Forgets what was made of an adapter's weights, or of the base's own (None)."""
        with self._lock:
            if adapter is None:
                self._packed_from = ()
            else:
                self._adapters.pop(adapter, None)

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
        q, k, v = (_plain(getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj"))
        weight = torch.cat([q.weight, k.weight, v.weight])
        bias = None if q.bias is None else torch.cat([q.bias, k.bias, v.bias])
        return Layer(
            attention_norm=block.input_layernorm.weight.detach(),
            qkv=pack(weight, bias),
            out=pack(_plain(attention.o_proj).weight, _plain(attention.o_proj).bias),
            mlp_norm=block.post_attention_layernorm.weight.detach(),
            gate_up=pack(torch.cat([_plain(mlp.gate_proj).weight, _plain(mlp.up_proj).weight]), None),
            down=pack(_plain(mlp.down_proj).weight, None),
        )

    def low_rank(self, adapter: str) -> Terms:
        """The adapter's terms; made again when its weights have changed."""
        mark = f".{adapter}."
        versions = tuple(
            number for name, p in self.network.named_parameters() if mark in name for number in (id(p), p._version)
        )
        if not versions:
            raise KeyError(f'No adapter "{adapter}" is attached to this model.')
        with self._lock:
            known = self._adapters.get(adapter)
            if known is None or known[0] != versions:
                gates = gates_of(self.network)
                text, speech = halves(gates.ranks if gates else {}, adapter)
                terms = Terms(self._low_rank(adapter, text), speech and self._low_rank(adapter, speech))
                known = self._adapters[adapter] = (versions, terms)
            return known[1]

    def _low_rank(self, adapter: str, ranks: slice) -> list[dict[str, LowRank]]:
        return [self._low_rank_layer(block, adapter, ranks) for block in self.network.model.layers]

    def _low_rank_layer(self, block: nn.Module, adapter: str, ranks: slice) -> dict[str, LowRank]:
        attention, mlp = block.self_attn, block.mlp
        parts = {
            "qkv": [attention.q_proj, attention.k_proj, attention.v_proj],
            "out": [attention.o_proj],
            "gate_up": [mlp.gate_proj, mlp.up_proj],
            "down": [mlp.down_proj],
        }
        terms = {name: _stacked(modules, adapter, ranks) for name, modules in parts.items()}
        terms = {name: term for name, term in terms.items() if term is not None}
        return terms

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None], copies: int, room: int
    ) -> tuple[FastSession, torch.Tensor]:
        self._pack()
        ids, pads, _ = left_padded(prompts, 0, self.device)
        session = FastSession(self, list(adapters), pads, ids.shape[1], ids.shape[1] + room)
        logits = session.read(ids)
        if copies > 1:
            session.share(copies)
            logits = logits.repeat_interleave(copies, dim=0)
        return session, logits


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


def _stacked(modules: Sequence[nn.Module], adapter: str, ranks: slice) -> LowRank | None:
    """One low-rank term, of some of the adapter's ranks, for projections that are computed as one product."""
    downs, ups = [], []
    for module in modules:
        width = _plain(module).out_features
        if hasattr(module, "lora_A") and adapter in module.lora_A:
            down, up = module.lora_A[adapter].weight[ranks], module.lora_B[adapter].weight[:, ranks]
            up = up * module.scaling[adapter]
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
