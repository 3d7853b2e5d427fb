"""A tiny base of each family that interleaves words and speech, and what it is given and says, to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
from tests import tiny
from tests.models import tiny_families
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.loading import load_base

TYPED = Dialogue((Turn("user", text="What is"),))
MAKERS = {
    "vita-audio-plus": (tiny_families.make_vita, {}),
    "glm-4-voice": (tiny_families.make_glm, {}),
    "step-audio-2": (tiny_families.make_step, {"speech_pad": "<audio_64>"}),
}
"""Name -> what makes its base, and how its description differs."""


def make_bases(folder: Path) -> Path:
    """A base of each family in ``folder``, with the embedded model's kind of codec; returns ``folder``."""
    tiny.make_tiny_codec(folder / "tiny-codec")
    for name, (make, changes) in MAKERS.items():
        make(folder / name, extends=name, speech_count=tiny.CODES, codec="../tiny-codec", **changes)
    return folder


def load_bases(folder: Path) -> dict[str, Any]:
    return {name: load_base(name, folder / name, trust_remote_code=True) for name in MAKERS}


def names_of(base: Any, ids: list[int]) -> list[str]:
    """The names of ids, Qwen's spelling of a space and a line break read back."""
    return [each.replace("Ġ", " ").replace("Ċ", "\n") for each in base.tokenizer.convert_ids_to_tokens(list(ids))]


def prompt_of(base: Any, dialogue: Dialogue) -> str:
    """A prompt as text; the ids of recordings as the family's placeholder."""
    placeholder = base.tokens.placeholder
    ids = [
        placeholder if i >= base.tokens.vocabulary_size else i for i in base.policy({"x": None}).encode_prompt(dialogue)
    ]
    return base.tokenizer.decode(ids)
