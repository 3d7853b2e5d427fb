"""Networks and tokenizers of families whose own classes are remote code: opened as the transformers class they are.

VITA-Audio and Step-Audio 2 are Qwen2 with more tokens, GLM-4-Voice is GLM-4: nothing that comes with a checkpoint runs
for them, and what was written for an older transformers need not run on a newer one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from wavalign.models.description import LayoutError

Opened = tuple[Any, Mapping[str, Any]]
"""A network, and what transformers says of its loading."""


def qwen2(folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Opened:
    """``Qwen2ForCausalLM``; layers and heads that predict further tokens at once (MTP) are left out."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    told = dict(config.get("text_config") or config)
    told.setdefault("eos_token_id", config.get("eos_token_id"))
    told["num_hidden_layers"] -= int(told.get("num_nextn_predict_layers") or 0)
    for name in ("auto_map", "architectures", "model_type", "_name_or_path", "layer_types", "num_nextn_predict_layers"):
        told.pop(name, None)
    return Qwen2ForCausalLM.from_pretrained(str(folder), config=Qwen2Config.from_dict(told), **settings)


def chatglm(folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Opened:
    """``GlmForCausalLM`` with the tensors of a ChatGLM checkpoint under the names that transformers gives them."""
    from safetensors import safe_open
    from transformers import GlmConfig, GlmForCausalLM

    from wavalign.models.loading import weight_files

    made = GlmConfig(
        vocab_size=config["padded_vocab_size"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["ffn_hidden_size"],
        num_hidden_layers=config["num_layers"],
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config[
            "multi_query_group_num" if config["multi_query_attention"] else "num_attention_heads"
        ],
        head_dim=config["kv_channels"],
        max_position_embeddings=config["seq_length"],
        rms_norm_eps=config["layernorm_epsilon"],
        attention_bias=config.get("add_qkv_bias", True),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10_000.0 * config.get("rope_ratio", 1),
            "partial_rotary_factor": 0.5,
        },
        pad_token_id=config.get("pad_token_id"),
        eos_token_id=config.get("eos_token_id"),
    )
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder.name, folder):
        with safe_open(str(file), framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                tensors |= _renamed(key, stored.get_tensor(key), made)
    own = {name: value for name, value in settings.items() if name not in ("local_files_only", "trust_remote_code")}
    return GlmForCausalLM.from_pretrained(None, config=made, state_dict=tensors, **own)


BACKBONES: dict[str, Callable[[Path, Mapping[str, Any], Mapping[str, Any]], Opened]] = {
    "qwen2": qwen2,
    "chatglm": chatglm,
}
"""What ``backbone`` of a description may name. Called with the folder, its config and settings of from_pretrained."""

_RENAMED = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_LAYER = {
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
}


def _renamed(key: str, tensor: torch.Tensor, config: Any) -> dict[str, torch.Tensor]:
    if key in _RENAMED:
        return {_RENAMED[key]: tensor}
    before = "transformer.encoder.layers."
    if not key.startswith(before):
        return {}
    number, _, part = key[len(before) :].partition(".")
    layer = f"model.layers.{number}."
    if part in _LAYER:
        return {layer + _LAYER[part]: tensor}
    joined, _, kind = part.rpartition(".")
    if joined != "self_attention.query_key_value":
        return {}
    heads = config.num_attention_heads * config.head_dim
    shared = config.num_key_value_heads * config.head_dim
    parts = zip("qkv", tensor.split([heads, shared, shared]), strict=True)
    return {f"{layer}self_attn.{name}_proj.{kind}": each.clone() for name, each in parts}


def shapes_as_opened(config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes in a checkpoint's files as the network that is opened of them has them."""
    if config.get("model_type") != "chatglm":
        return shapes
    heads = SimpleNamespace(
        num_attention_heads=config["num_attention_heads"],
        num_key_value_heads=config[
            "multi_query_group_num" if config["multi_query_attention"] else "num_attention_heads"
        ],
        head_dim=config["kv_channels"],
    )
    opened: dict[str, tuple[int, ...]] = {}
    for key, shape in shapes.items():
        renamed = _renamed(key, torch.empty(shape, device="meta"), heads)
        opened |= {name: tuple(tensor.shape) for name, tensor in renamed.items()}
    return opened


_GLM4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)


def tokenizer_of(folder: Path) -> Any:
    """The family's tokenizer without its Python files: from tokenizer.json, Qwen2's vocab.json, or GLM-4's
    tokenizer.model (ranks of byte pairs).

    Raises:
        LayoutError: when tokenizer.model is no such file.
    """
    from transformers import PreTrainedTokenizerFast, Qwen2TokenizerFast

    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    if (folder / "vocab.json").is_file():
        return Qwen2TokenizerFast.from_pretrained(str(folder), local_files_only=True)
    return _of_ranks(folder)


def _of_ranks(folder: Path) -> Any:
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    class Converter(TikTokenConverter):
        @staticmethod
        def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
            lines = Path(tiktoken_url).read_bytes().splitlines()
            return {base64.b64decode(pair.split()[0]): int(pair.split()[1]) for pair in lines if pair}

    path = folder / "tokenizer.model"
    try:
        converted = Converter(vocab_file=str(path), pattern=_GLM4_PATTERN).converted()
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        added = {int(index): token for index, token in told["added_tokens_decoder"].items()}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise LayoutError(
            f"The tokenizer in {folder} cannot be read: tokenizer.model must hold GLM-4's byte pairs, and "
            "tokenizer_config.json its added tokens. Restore them."
        ) from error
    made = PreTrainedTokenizerFast(tokenizer_object=converted)
    size = len(made)
    for index, token in sorted(added.items()):
        # Ids between the family's tokens that have no name still have to be counted.
        unnamed = [AddedToken(f"<|unnamed_{each}|>", special=True) for each in range(size, index)]
        one = AddedToken(token["content"], special=bool(token.get("special")), normalized=False)
        if unnamed:
            made.add_tokens(unnamed, special_tokens=True)
        made.add_tokens([one], special_tokens=one.special)
        size = index + 1
        if made.convert_tokens_to_ids(one.content) != index:
            raise LayoutError(
                f'The tokenizer in {folder} cannot be read: "{one.content}" should have id {index}. Restore it.'
            )
    return made
