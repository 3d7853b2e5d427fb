"""Random-weight interleaved checkpoints of the shapes of real ones, in folders that the registry loads.

A shape is one line of ``SHAPES``: the fields of its ``config.json`` that differ from the embedded checkpoint's. Tokens,
layout and codec are the embedded ones, so prompts, rewards and data fit; the vocabulary may be larger than the
tokenizer's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

EMBEDDED = "closedtalk-base"
SHAPES: dict[str, dict[str, Mapping[str, Any]]] = {
    "tiny": {
        "random-tiny": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8,
        },
    },
    "small": {
        "random-0.5b": {
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 151936,
        },
        "random-1b": {
            "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
        },
    },
    "large": {
        "random-3b": {
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 2, "head_dim": 128, "vocab_size": 151936,
        },
    },
}  # fmt: skip
"""Size -> name -> shape: the widths and depths of Qwen2.5-0.5B and -3B, and of Llama-3.2-1B."""
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "interleaved.json")


def make_assets(folder: Path, assets: Path, size: str, dtype: torch.dtype) -> list[str]:
    """Links to all of ``assets`` in ``folder``, with the checkpoints of ``size`` beside them; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in assets.iterdir():
        (folder / each.name).symlink_to(each.resolve())
    for name, shape in SHAPES[size].items():
        _make(folder / name, assets / EMBEDDED, shape, dtype)
    return list(SHAPES[size])


def _make(folder: Path, embedded: Path, shape: Mapping[str, Any], dtype: torch.dtype) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    known = json.loads((embedded / "config.json").read_text(encoding="utf-8"))
    kept = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "rms_norm_eps")
    config = {name: known[name] for name in kept} | {"model_type": "llama", "tie_word_embeddings": True} | dict(shape)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype)
    made.save_pretrained(str(folder))
    for name in _BESIDE:
        if (embedded / name).is_file():
            shutil.copyfile(embedded / name, folder / name)
