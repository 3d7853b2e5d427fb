"""What a Kimi-Audio checkpoint does not say itself: where its codec and encoder are, and how it is sampled.

``kimi_audio.json`` beside the weights is optional; without it everything is where the published checkpoints have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
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
    """``folder`` is the checkpoint's; ``whisper`` the encoder's folder, absolute; ``codec`` as ``open_codec`` takes it:
    a folder, or a type and its parts."""

    folder: Path
    whisper: Path
    codec: str | Mapping[str, Any] = field(default_factory=lambda: {"type": "kimi_audio"})
    sampling: Sampling = SAMPLING

    @classmethod
    def read(cls, name: str, folder: Path) -> KimiDescription:
        """Raises:
        CheckpointError: when the file is wrong.
        """
        told = cls(folder, folder / WHISPER)
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
        whisper, codec = data.get("whisper", WHISPER), data.get("codec", told.codec)
        if not isinstance(whisper, str) or not whisper:
            raise CheckpointError(f"{wrong}: whisper must be the path of a folder.")
        if not (isinstance(codec, str) and codec) and not isinstance(codec, Mapping):
            raise CheckpointError(f"{wrong}: codec must be the path of a folder, or an object with its type.")
        sampling = _sampling(wrong, data.get("sampling", {}))
        return cls(folder, (folder / whisper).resolve(), codec, sampling)

    def placed(self) -> dict[str, Any]:
        """What the file says in another folder: the codec and the encoder stay where they are."""
        base = self.folder.resolve()
        if isinstance(self.codec, str):
            codec: Any = str((base / self.codec).resolve())
        else:
            held = {key: str(base / value) for key, value in self.codec.items() if _is_inside(base, value)}
            codec = {"detokenizer": str(base), **self.codec, **held}
        return {"whisper": str(self.whisper.resolve()), "codec": codec, "sampling": asdict(self.sampling)}


def _is_inside(base: Path, value: Any) -> bool:
    return isinstance(value, str) and (base / value).is_dir()


def _sampling(wrong: str, settings: Any) -> Sampling:
    known = {item.name for item in fields(Sampling)}
    if not isinstance(settings, Mapping) or set(settings) - known:
        raise CheckpointError(f"{wrong}: sampling may have {', '.join(sorted(known))}.")
    try:
        return replace(SAMPLING, **settings)
    except (SamplingError, TypeError) as error:
        raise CheckpointError(f"{wrong}: {error}") from error
