"""A tiny checkpoint of every layout with something to train on: what ``test_every_layout`` runs over.

A layout is one builder and one line of ``BUILDERS``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
from evaluation.speed_gpu_rows import rows_of_codes
from tests import tiny
from tests.codecs import tiny_codecs
from tests.models import tiny_families, tiny_kimi, tiny_moshi, tiny_omni
from tests.training import tiny_run


@dataclass(frozen=True)
class Tiny:
    """``assets`` holds the base "tiny-base" and, on it, the adapter "tiny-tuned".

    ``changes`` are fields of a run's config: its data, with targets in words and speech, and what the model needs to
    have room for. ``speech_parameters``: parts of a parameter's name that only speech goes through, in layouts that
    have such.
    """

    assets: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    speech_parameters: tuple[str, ...] = ()


def embedded(folder: Path) -> Tiny:
    return Tiny(tiny_run.make_assets(folder))


def qwen25_omni(folder: Path) -> Tiny:
    return _omni(folder, "qwen2_5_omni", 1)


def qwen3_omni(folder: Path) -> Tiny:
    return _omni(folder, "qwen3_omni_moe", tiny_omni.BOOKS)


def kimi_audio(folder: Path) -> Tiny:
    base = tiny_kimi.make_tiny_kimi(folder / "tiny-base")
    os.environ["WAVALIGN_TRUST_REMOTE_CODE"] = str(base)  # as the host does; conftest takes it back
    tiny_kimi.make_tiny_kimi_adapter(folder / "tiny-tuned", base)
    path = rows_of_codes(folder / "rows", 1, tiny_kimi.CODES, frames=24)
    return Tiny(folder, _changes(path, max_seconds=1.0), speech_parameters=("mimo_",))


def moshi(folder: Path) -> Tiny:
    base = tiny_moshi.make_tiny_moshi(folder / "tiny-base")
    tiny_moshi.make_tiny_moshi_adapter(folder / "tiny-tuned", base)
    path = rows_of_codes(folder / "rows", tiny_moshi.BOOKS, tiny_moshi.CODES)
    return Tiny(folder, _changes(path), speech_parameters=("depth_decoder.",))


def vita_audio_plus(folder: Path) -> Tiny:
    """Hears through the encoder that it brings."""
    return _interleaved(folder, tiny_families.make_vita, "vita-audio-plus")


def glm_4_voice(folder: Path) -> Tiny:
    """Hears and speaks in the codes of its own codec."""
    for name in ("tokenizer", "decoder"):
        getattr(tiny_codecs, f"make_glm4_{name}")(folder / f"glm-4-voice-{name}")
    sys.modules.pop("flow_inference", None)
    os.environ["WAVALIGN_GLM4_VOICE"] = str(tiny_codecs.make_glm4_checkout(folder / "GLM-4-Voice"))
    return _interleaved(folder, tiny_families.make_glm, "glm-4-voice", codec=None)


def step_audio_2(folder: Path) -> Tiny:
    return _interleaved(folder, tiny_families.make_step, "step-audio-2", speech_pad="<audio_64>")


BUILDERS: dict[str, Callable[[Path], Tiny]] = {
    "embedded": embedded,
    "qwen2.5-omni": qwen25_omni,
    "qwen3-omni": qwen3_omni,
    "kimi-audio": kimi_audio,
    "moshi": moshi,
    "vita-audio-plus": vita_audio_plus,
    "glm-4-voice": glm_4_voice,
    "step-audio-2": step_audio_2,
}
"""Layout or family -> what makes its checkpoints in an empty folder."""


def _interleaved(folder: Path, make: Callable[..., Path], family: str, **description: Any) -> Tiny:
    """The family's own description, but for the number of codes, how long replies are and, unless ``codec`` is None,
    the embedded model's kind of codec."""
    tiny.make_tiny_codec(folder / "tiny-codec")
    sampling = {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "max_tokens": 48}
    told = {"extends": family, "speech_count": tiny.CODES, "codec": "../tiny-codec"}
    told |= {"sampling": {**sampling, "max_seconds": 1.2}, **description}
    if told["codec"] is None:
        del told["codec"]
    base = make(folder / "tiny-base", **told)
    os.environ["WAVALIGN_TRUST_REMOTE_CODE"] = str(base)  # as the host does; conftest takes it back
    tiny_families.make_adapter(folder / "tiny-tuned", base)
    return Tiny(folder, _changes(rows_of_codes(folder / "rows", 1, tiny.CODES, frames=30), max_seconds=0.8))


def _omni(folder: Path, kind: str, books: int) -> Tiny:
    base = tiny_omni.make_tiny_omni(folder / "tiny-base", kind)
    tiny_omni.make_tiny_omni_adapter(folder / "tiny-tuned", base)
    path = rows_of_codes(folder / "rows", books, tiny_omni.CODES)
    return Tiny(folder, _changes(path), speech_parameters=("talker.",))


def _changes(path: str, max_seconds: float = 0.5) -> dict[str, Any]:
    data = {"source": "jsonl", "path": path, "shuffle": False}
    return {"data": data, "evaluation": {"data": data}, "rollouts": {"max_tokens": 60, "max_seconds": max_seconds}}
