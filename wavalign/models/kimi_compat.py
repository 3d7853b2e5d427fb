"""Kimi-Audio's published modelling code on today's transformers.

That code was written for transformers 4 and is not ours to change; what it asks of the library is given to it here. Its
own arithmetic is untouched.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


def open_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer: one of transformers', or the published class, which stands on its own.

    That class never calls the ``__init__`` of the base that it names, and transformers 5 cannot do without; nothing
    that is asked of it here comes from that base.
    """
    from transformers import AutoTokenizer
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("auto_map") or {}
    named = told.get("AutoTokenizer")
    if not named:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    reference = named if isinstance(named, str) else next(each for each in named if each)
    kind = get_class_from_dynamic_module(reference, str(folder), local_files_only=True)
    file = folder / kind.vocab_files_names["vocab_file"]
    if not file.is_file():
        raise FileNotFoundError(f"{file.name} is missing, the words of its tokenizer.")
    own = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return type(kind.__name__, (), own)(str(file))


def prepare_config(config: Any) -> Any:
    """``rope_theta`` and ``rope_scaling`` as attributes: transformers 5 keeps them in ``rope_parameters``."""
    rope = getattr(config, "rope_parameters", None) or {}
    for name, value in (("rope_theta", rope.get("rope_theta", 10_000.0)), ("rope_scaling", None)):
        if not hasattr(config, name):
            setattr(config, name, value)
    return config


def finish_model(model: nn.Module) -> None:
    """Rotations are applied as that code calls for it, and its tables, which no file holds, are made again.

    transformers 5 builds a model without memory, fills it from the file, and leaves buffers that are not in the file
    without values.
    """
    module = sys.modules[type(model).__module__]
    rotate = getattr(module, "apply_rotary_pos_emb", None)
    if rotate is not None and not getattr(rotate, "takes_positions", False):
        module.apply_rotary_pos_emb = _taking_positions(rotate)
    for part in model.modules():
        if isinstance(getattr(part, "_tied_weights_keys", None), list):
            part._tied_weights_keys = {}  # no weight of this family is tied to another; transformers 5 wants pairs
        if hasattr(part, "_set_cos_sin_cache") and hasattr(part, "inv_freq"):
            _make_tables(part)


def _taking_positions(rotate: Callable[..., Any]) -> Callable[..., Any]:
    def rotated(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *_: Any) -> Any:
        return rotate(q, k, cos, sin)  # the tables come with their positions picked already

    rotated.takes_positions = True
    return rotated


def _make_tables(rotary: Any) -> None:
    device = rotary.inv_freq.device
    steps = torch.arange(0, rotary.dim, 2, dtype=torch.float32, device=device)
    rotary.inv_freq = 1.0 / (rotary.base ** (steps / rotary.dim))
    rotary._set_cos_sin_cache(seq_len=rotary.max_position_embeddings, device=device, dtype=torch.get_default_dtype())
