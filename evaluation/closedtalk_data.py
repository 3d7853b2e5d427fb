"""Reads the recordings that ClosedTalk ships for evaluation, so that no synthesiser is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from wavalign import audio
from wavalign.audio import AudioError, Waveform
from wavalign.closedtalk.dataset import DataError
from wavalign.closedtalk.deliveries import Delivery

DATA_FOLDER = "closedtalk-data"
AUDIO_FILE = "evaluation_audio.parquet"


@dataclass(frozen=True)
class Recording:
    """What was said, and in which delivery (None for users); ``source`` made the voice."""

    id: str
    kind: str
    text: str
    delivery: Delivery | None
    source: str
    waveform: Waveform


def read_recordings(assets: Path, kind: str, limit: int | None = None) -> list[Recording]:
    """The first ``limit`` recordings of a kind ("assistant_balanced", "user_heldout", "probe_human", ...).

    Raises:
        DataError: when the file is missing, holds something else, or has no recording of the kind.
    """
    path = assets / DATA_FOLDER / AUDIO_FILE
    if not path.is_file():
        raise DataError(f"{path} is missing; build it with python -m wavalign.closedtalk.build, or restore assets/.")
    try:
        rows = pyarrow.parquet.read_table(path, filters=[("kind", "==", kind)]).to_pylist()
        recordings = [_recording(row) for row in rows[:limit]]
    except (pyarrow.ArrowException, KeyError, ValueError, AudioError) as error:
        raise DataError(f"{path} does not hold recordings ({error}).") from error
    if not recordings:
        raise DataError(f'{path} has no recordings of the kind "{kind}"; build the evaluation audio again.')
    return recordings


def _recording(row: Mapping[str, Any]) -> Recording:
    delivery = row["delivery"]
    return Recording(
        id=str(row["id"]),
        kind=row["kind"],
        text=row["text"],
        delivery=Delivery(delivery) if delivery else None,
        source=row["source"],
        waveform=audio.read(row["ogg"]),
    )
