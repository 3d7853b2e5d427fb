"""Opens codecs: a folder whose ``config.json`` names its type, or a type and the parts that it is made of."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavalign.codecs.parts import CodecError
from wavalign.codecs.protocol import SpeechCodec

if TYPE_CHECKING:
    import torch

__all__ = ["CODECS", "COMPOSED", "CodecError", "codec_folders", "load_codec", "missing_parts", "open_codec"]

CODECS: dict[str, str] = {
    "fsq_world": "wavalign.codecs.fsq_world:FsqWorldCodec",
}
"""Codec type -> "module:class"; the class has ``from_pretrained(folder)``. Imported only when it is asked for."""

COMPOSED: dict[str, str] = {
    "glm4voice": "wavalign.codecs.glm4voice:Glm4VoiceCodec",
    "cosyvoice2": "wavalign.codecs.cosyvoice2:CosyVoice2Codec",
    "kimi_audio": "wavalign.codecs.kimi_audio:KimiAudioCodec",
}
"""Types made of parts -> "module:class"; the class has ``from_parts(parts, base folder, device)``, and
``missing(parts, base folder or None)``, which tells what of it is not here."""

Told = str | Mapping[str, Any] | None
"""A codec as a description tells it: a folder (relative to the checkpoint's), or {"type": ..., its parts}."""


def open_codec(told: Told, base: Path, device: torch.device) -> SpeechCodec:
    """The codec of the checkpoint in ``base``; None is its folder ``codec``.

    Raises:
        CodecError: one sentence.
    """
    if not isinstance(told, Mapping):
        return load_codec(base / (told or "codec"))
    kind = told.get("type")
    if kind not in COMPOSED:
        raise CodecError(f'The layout\'s codec is of type "{kind}"; those made of parts are: {", ".join(COMPOSED)}.')
    return _class(COMPOSED[kind]).from_parts(told, base, device)


def codec_folders(told: Told, base: Path) -> list[Path]:
    """The folders outside of ``base`` that hold the codec's weights, as far as they are here."""
    from wavalign.codecs.parts import find_part

    if not isinstance(told, Mapping):
        folder = (base / (told or "codec")).resolve()
        return [folder] if folder.is_dir() and base.resolve() not in folder.parents else []
    found = []
    for field, source in told.items():
        if field in ("type", "voice") or not source:
            continue
        try:
            folder = find_part(str(source), base, field).resolve()
        except CodecError:
            continue
        found += [folder] if base.resolve() not in folder.parents else []
    return found


def missing_parts(told: Told, base: Path | None) -> list[str]:
    """What would stop ``open_codec``, a sentence each, as far as a look at folders tells it."""
    kind = told.get("type") if isinstance(told, Mapping) else None
    return list(_class(COMPOSED[kind]).missing(told, base)) if kind in COMPOSED else []


def load_codec(folder: str | Path) -> SpeechCodec:
    """The codec in ``folder``.

    Raises:
        CodecError: when the folder, its config or its weights are missing or broken, or the type is unknown.
    """
    folder = Path(folder)
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise CodecError(f"There is no codec in {folder}: config.json is missing. Build it or choose another folder.")
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CodecError(f"The codec's {config_path} is not valid JSON. Restore it.") from error
    codec_type = config.get("codec_type") if isinstance(config, dict) else None
    if codec_type not in CODECS:
        known = ", ".join(sorted(CODECS))
        raise CodecError(f'The codec in {folder} has codec_type "{codec_type}"; the known ones are: {known}.')
    try:
        return _class(CODECS[codec_type]).from_pretrained(str(folder))
    except Exception as error:  # every backend raises its own kind for a broken file; the sentence names the folder
        raise CodecError(f"The codec in {folder} cannot be loaded ({type(error).__name__}). Restore its files.") from (
            error
        )


def _class(named: str) -> Any:
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)
