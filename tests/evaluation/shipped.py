"""An assets folder like the shipped one, with random weights, hums for recordings and a few dialogues."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import soundfile
import torch

from tests.metrics.tones import joined, silence, voice
from tests.tiny import CODES, make_tiny_checkpoint, make_tiny_codec
from wavalign.audio import Waveform
from wavalign.closedtalk.dataset import DialogueRow, TurnRow, write_dialogues
from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.delivery import DeliveryReferences
from wavalign.closedtalk.world import answer, find
from wavalign.metrics.recogniser import Recogniser

KINDS = ("assistant_balanced", "assistant_domain", "user_heldout", "probe_human", "probe_festival")
SPLITS = ("held_out", "post_training", "unseen_combinations")


def hum(pitch: float) -> Waveform:
    return joined(silence(0.05), voice(np.linspace(pitch, 1.1 * pitch, 9600), 0.6), silence(0.05))


def turn_row(
    slots: tuple[str, ...], *, family: str = "opposites", kind: str = "question", typed: bool = False, **changes: object
) -> TurnRow:
    """A right turn about one item; ``changes`` replaces fields."""
    item = find(family, slots)
    rng = np.random.default_rng(len(slots[0]))
    fields = {
        "text": f"what is the opposite of {slots[0]}",
        "tone": "plain",
        "item": item.id,
        "family": family,
        "kind": kind,
        "requested": None,
        "delivery": "neutral",
        "answer": answer(item),
        "demonstration": answer(item),
        "user_codes": () if typed else tuple(int(c) for c in rng.integers(0, CODES, 20)),
        "reply_codes": tuple(int(c) for c in rng.integers(0, CODES, 30)),
    }
    return TurnRow(**(fields | changes))


def dialogue_row(split: str, index: int, *turns: TurnRow) -> DialogueRow:
    typed = not turns[0].user_codes
    return DialogueRow(split, index, f"{split} {index}", "seen", typed, "espeak", "en-us+m7", turns)


def make_assets(folder: Path) -> Path:
    """Everything that ``python -m evaluation.run closedtalk`` reads; returns ``folder``."""
    make_tiny_codec(folder / "closedtalk-codec")
    make_tiny_checkpoint(folder / "closedtalk-base", codec="../closedtalk-codec")
    torch.manual_seed(2)
    Recogniser(["hot", "cold", "big"], channels=8, blocks=1).save_pretrained(str(folder / "closedtalk-recogniser"))
    hums = [(d, hum(90.0 + 20 * i + j), "hot") for i, d in enumerate(Delivery) for j in range(2)]
    DeliveryReferences.fit(hums).save(folder / "closedtalk-references.json")
    for split in SPLITS:
        rows = [
            dialogue_row(split, 0, turn_row(("hot",)), turn_row(("cold",), kind="follow_up")),
            dialogue_row(split, 1, turn_row(("big",), tone="slow_low", delivery="calm")),
            dialogue_row(split, 2, turn_row(("fast",), typed=True, requested="sad", delivery="sad")),
        ]
        write_dialogues(folder / "closedtalk-data" / f"{split}.parquet", rows)
    _write_recordings(folder / "closedtalk-data" / "evaluation_audio.parquet")
    return folder


def _write_recordings(path: Path) -> None:
    rows = []
    for kind in KINDS:
        for number, delivery in enumerate(Delivery):
            ogg = io.BytesIO()
            waveform = hum(90.0 + 20 * number)
            soundfile.write(ogg, waveform.samples, waveform.sample_rate, format="OGG")
            rows.append(
                {
                    "id": f"{kind}/{number}",
                    "kind": kind,
                    "text": "hot cold big",
                    "delivery": delivery.value if kind.startswith("assistant") else None,
                    "source": "espeak",
                    "ogg": ogg.getvalue(),
                }
            )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
