"""The families of the interleaved layout: one description (``NAME.yaml``) and one line of ``FAMILIES`` each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """``title`` for people; ``model_types`` and ``architectures`` as in a checkpoint's ``config.json``."""

    name: str
    title: str
    model_types: tuple[str, ...]
    architectures: tuple[str, ...] = ()


FAMILIES: tuple[Family, ...] = (
    Family(
        "vita-audio-plus", "VITA-Audio-Plus", ("qwen2_mtp_sensevoice",), ("Qwen2MTPSenseVoiceForCausalLM",)
    ),
    Family("vita-audio", "VITA-Audio", ("qwen2_mtp",), ("Qwen2MTPForCausalLM",)),
    Family("glm-4-voice", "GLM-4-Voice", ("chatglm",), ("ChatGLMForConditionalGeneration",)),
    Family("step-audio-2", "Step-Audio 2", ("step_audio_2",), ("StepAudio2ForCausalLM",)),
)  # fmt: skip


def names() -> tuple[str, ...]:
    return tuple(family.name for family in FAMILIES)


def family_of(config: Mapping[str, Any]) -> Family | None:
    """The family that a ``config.json`` is of."""
    architectures = config.get("architectures") or ()
    for family in FAMILIES:
        if config.get("model_type") in family.model_types or any(
            each in family.architectures for each in architectures
        ):
            return family
    return None


def description_of(name: str) -> dict[str, Any]:
    """The family's description as a new object."""
    return yaml.safe_load((_HERE / f"{name}.yaml").read_text(encoding="utf-8"))


def description_in(folder: Path) -> dict[str, Any] | None:
    """The description of the family of a checkpoint's folder; None where there is no config of a known family.

    VITA-Audio's checkpoints differ in how text and speech alternate, and say so in ``generation_config.json``.
    """
    config = _json(folder / "config.json")
    family = family_of(config) if config else None
    if family is None:
        return None
    told = description_of(family.name)
    ratio = (_json(folder / "generation_config.json") or {}).get("mtp_inference_mode")
    if family.name.startswith("vita-audio") and _is_ratio(ratio):
        told |= of_ratio(ratio)
    return told


def of_ratio(ratio: Sequence[int]) -> dict[str, Any]:
    """VITA-Audio's list (text, audio, text, audio, ...) as chunks: the last pair is repeated, and the numbers for audio
    count the two boundaries of a chunk. [1, 10, 4, 10] is 1 text and 8 codes, then 4 and 8 repeated.
    """
    pairs = [[text, audio - 2] for text, audio in zip(ratio[::2], ratio[1::2], strict=True)]
    return {"first_chunks": pairs[:-1], "text_chunk": pairs[-1][0], "speech_chunk": pairs[-1][1]}


def _is_ratio(told: Any) -> bool:
    """Not [8192, 0], which asks for plain decoding."""
    whole = isinstance(told, list) and len(told) >= 2 and len(told) % 2 == 0
    return whole and all(isinstance(each, int) and each > 0 for each in told) and min(told[1::2]) > 2


def _json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
