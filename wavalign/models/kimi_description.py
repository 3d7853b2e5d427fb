"""What a Kimi-Audio checkpoint does not say itself: where its codec and encoder are, and how it is sampled.

``kimi_audio.json`` beside the weights is optional; without it everything is where the published checkpoints have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from wavalign.models.protocol import CheckpointError, Sampling, SamplingError

DESCRIPTION_FILE = "kimi_audio.json"
WHISPER = "whisper-large-v3"
# The published example answers with text at temperature 0: replies to one prompt then differ in their sound alone, so
# training sets its own temperature (rollouts.temperature).
SAMPLING = Sampling(0.0, 0.8, 10, 1.0, 64, 1.0, max_seconds=60.0, max_tokens=1500)


@dataclass(frozen=True)
class KimiDescription:
    """``codec``: a folder that ``load_codec`` opens, None for the checkpoint's own detokenizer; ``whisper``: the
    encoder's folder. Both absolute."""

    whisper: Path
    codec: Path | None = None
    sampling: Sampling = SAMPLING

    @classmethod
    def read(cls, name: str, folder: Path) -> KimiDescription:
        """Raises:
        CheckpointError: when the file is wrong.
        """
        told = cls(folder / WHISPER)
        path = folder / DESCRIPTION_FILE
        if not path.is_file():
            return told
        wrong = f'Checkpoint "{name}": {DESCRIPTION_FILE}'
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{wrong} is not valid JSON.") from error
        if not isinstance(data, dict) or set(data) - {"whisper", "codec", "sampling"}:
            raise CheckpointError(f"{wrong} must be an object with whisper, codec and sampling, or some of them.")
        for key in {"whisper", "codec"} & data.keys():
            if not isinstance(data[key], str) or not data[key]:
                raise CheckpointError(f"{wrong}: {key} must be the path of a folder.")
            told = replace(told, **{key: (folder / data[key]).resolve()})
        return replace(told, sampling=_sampling(wrong, data.get("sampling", {})))

    def placed(self) -> dict[str, Any]:
        """What the file says in another folder."""
        places = {"whisper": str(self.whisper.resolve())}
        if self.codec is not None:
            places["codec"] = str(self.codec.resolve())
        return {**places, "sampling": asdict(self.sampling)}


def _sampling(wrong: str, settings: Any) -> Sampling:
    known = {item.name for item in fields(Sampling)}
    if not isinstance(settings, Mapping) or set(settings) - known:
        raise CheckpointError(f"{wrong}: sampling may have {', '.join(sorted(known))}.")
    try:
        return replace(SAMPLING, **settings)
    except (SamplingError, TypeError) as error:
        raise CheckpointError(f"{wrong}: {error}") from error
