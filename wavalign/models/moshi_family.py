"""Moshi as data: what its ``config.json`` does not say, and what a file beside the weights may change."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

from wavalign.models.protocol import CheckpointError, Sampling, SamplingError

DESCRIPTION_FILE = "parallel_streams.json"
"""Optional, beside the weights: changes ``pause_seconds`` and ``sampling``."""

TITLE = "Moshi"
MODEL_TYPE = "moshi"
PADDING = "<pad>"
"""Text token of a step in which no word begins."""
WORD_COMES = "<unk>"
"""Text token of the step before a word, where the step before that was padding (Défossez et al. 2024)."""

_PAUSE_SECONDS = 2.0
# 8 code books and a text token, 12.5 times a second.
_SAMPLING = Sampling(0.7, 0.8, 250, 1.0, max_seconds=30.0, max_tokens=4096)


@dataclass(frozen=True)
class MoshiFamily:
    """``pause_seconds``: a reply is over when its text stream has been padding for so long.

    Moshi listens and speaks without end, so a turn's end is a pause, as listeners hear it. The sampling is that of
    Moshi's own server: text cooler than speech (its top-k of 25 words is left out: here one top-k serves both).
    """

    pause_seconds: float = _PAUSE_SECONDS
    sampling: Sampling = _SAMPLING

    @classmethod
    def read(cls, name: str, folder: Path) -> MoshiFamily:
        """With what ``parallel_streams.json`` changes.

        Raises:
            CheckpointError: when the file is wrong.
        """
        path = folder / DESCRIPTION_FILE
        if not path.is_file():
            return cls()
        wrong = f'Checkpoint "{name}": {DESCRIPTION_FILE}'
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{wrong} is not valid JSON.") from error
        if not isinstance(data, dict) or set(data) - {"pause_seconds", "sampling"}:
            raise CheckpointError(f"{wrong} must be an object with pause_seconds and sampling, or one of them.")
        pause, settings = data.get("pause_seconds", _PAUSE_SECONDS), data.get("sampling", {})
        number = isinstance(pause, (int, float)) and not isinstance(pause, bool)
        if not number or not (math.isfinite(pause) and 0.2 <= pause <= 60):
            raise CheckpointError(f"{wrong}: pause_seconds must be between 0.2 and 60, got {pause!r}.")
        known = {item.name for item in fields(Sampling)}
        if not isinstance(settings, dict) or set(settings) - known:
            raise CheckpointError(f"{wrong}: sampling may have {', '.join(sorted(known))}.")
        try:
            return cls(float(pause), replace(_SAMPLING, **settings))
        except (SamplingError, TypeError) as error:
            raise CheckpointError(f"{wrong}: {error}") from error
