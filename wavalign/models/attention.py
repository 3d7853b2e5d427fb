"""Which attention a checkpoint is opened with: the one place where it is chosen.

``WAVALIGN_ATTENTION`` is auto, or a name that transformers knows (sdpa, flash_attention_2, eager). Auto takes torch's
own scaled dot product attention, which picks a fused kernel by itself, and on a GPU with weights in half precision the
flash-attn package where it is installed: it skips the padding of a batch. Training always runs on sdpa, because a
prompt that is read once for all of its replies needs a mask of its own, which flash-attn does not take.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch

from wavalign.models.protocol import CheckpointError

VARIABLE = "WAVALIGN_ATTENTION"
FLASH, SDPA = "flash_attention_2", "sdpa"
CHOICES = ("auto", SDPA, FLASH, "eager")


def choose(network: Any) -> str | None:
    """What ``network`` (a model of transformers, loaded) should attend with; None leaves it as it is.

    Raises:
        CheckpointError: when the host asked for something that is not known, not installed, or not possible here.
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked not in CHOICES:
        raise CheckpointError(f"{VARIABLE} is {asked!r}; choose one of {', '.join(CHOICES)}.")
    weight = next(network.parameters())
    possible = weight.device.type == "cuda" and weight.dtype in (torch.bfloat16, torch.float16)
    if asked == FLASH and not (possible and installed()):
        lacking = "the flash-attn package" if possible else "a GPU and weights in bfloat16 or float16"
        raise CheckpointError(f"{VARIABLE} is {FLASH}, which needs {lacking}; choose auto.")
    if asked != "auto":
        return asked
    return FLASH if possible and installed() and getattr(network, "_supports_flash_attn", False) else None


def settle(network: Any) -> None:
    """Makes a network that was just loaded attend as ``choose`` says.

    Raises:
        CheckpointError: as ``choose``, or when the network cannot.
    """
    chosen = choose(network)
    if chosen is not None:
        _set(network, chosen)


def settle_for_training(network: Any) -> None:
    """Back to sdpa where flash-attn was chosen for talking."""
    for part in _models(network):
        if getattr(part.config, "_attn_implementation", None) == FLASH:
            _set(part, SDPA)


def installed() -> bool:
    return importlib.util.find_spec("flash_attn") is not None


def _set(network: Any, chosen: str) -> None:
    try:
        network.set_attn_implementation(chosen)
    except (ValueError, ImportError, AttributeError) as error:
        raise CheckpointError(f"{type(network).__name__} cannot attend with {chosen}: {error}") from error


def _models(network: Any) -> list[Any]:
    """The outermost models of transformers in a module."""
    if hasattr(network, "set_attn_implementation"):
        return [network]
    return [model for child in network.children() for model in _models(child)]
