"""Opens a codec folder: ``config.json`` names the codec's type, this file names the class of each type."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from wavalign.codecs.protocol import SpeechCodec

CODECS: dict[str, str] = {
    "fsq_world": "wavalign.codecs.fsq_world:FsqWorldCodec",
}
"""Codec type -> "module:class"; the class has ``from_pretrained(folder)``. Imported only when it is asked for."""


class CodecError(RuntimeError):
    """A codec folder that cannot be used; the message is one sentence that names it."""


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
    module, _, name = CODECS[codec_type].partition(":")
    codec_class = getattr(importlib.import_module(module), name)
    try:
        return codec_class.from_pretrained(str(folder))
    except Exception as error:  # every backend raises its own kind for a broken file; the sentence names the folder
        raise CodecError(f"The codec in {folder} cannot be loaded ({type(error).__name__}). Restore its files.") from (
            error
        )
