"""What the ClosedTalk benchmarks share: where the assets are, which checkpoint is judged, and the parts loaded once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from evaluation.closedtalk_data import DATA_FOLDER, Recording, read_recordings
from wavalign.audio import Waveform
from wavalign.closedtalk.dataset import DialogueRow, read_dialogues
from wavalign.closedtalk.delivery import DeliveryReferences
from wavalign.codecs.loading import load_codec
from wavalign.codecs.protocol import SpeechCodec
from wavalign.metrics.recogniser import Recogniser
from wavalign.metrics.wer import WordErrors, word_errors
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.registry import Registry

CODEC_FOLDER = "closedtalk-codec"
RECOGNISER_FOLDER = "closedtalk-recogniser"
REFERENCES_FILE = "closedtalk-references.json"

T = TypeVar("T")


@dataclass
class Bench:
    """One evaluation: ``limit`` prompts or recordings a benchmark (None = each one's own), all draws from ``seed``."""

    assets: Path
    checkpoint: str
    limit: int | None = None
    seed: int = 0
    quiet: bool = False
    home: Path | None = None

    @cached_property
    def model(self) -> InterleavedModel:
        """The checkpoint under test, from the assets or from ``checkpoints/`` of ``home``."""
        return Registry(self.assets, self.home).load([self.checkpoint])

    @cached_property
    def codec(self) -> SpeechCodec:
        return load_codec(self.assets / CODEC_FOLDER)

    @cached_property
    def recogniser(self) -> Recogniser:
        return Recogniser.from_pretrained(str(self.assets / RECOGNISER_FOLDER)).eval()

    @cached_property
    def references(self) -> DeliveryReferences:
        return DeliveryReferences.load(self.assets / REFERENCES_FILE)

    def dialogues(self, split: str, count: int) -> list[DialogueRow]:
        """The first dialogues of a split: ``limit`` of them, or ``count`` when no limit was given."""
        return read_dialogues(self.assets / DATA_FOLDER / f"{split}.parquet", self.limit or count)

    def recordings(self, kind: str, count: int) -> list[Recording]:
        return read_recordings(self.assets, kind, self.limit or count)

    def heard(self, waveforms: Iterable[Waveform], texts: Iterable[str]) -> list[WordErrors]:
        """The recogniser's word errors against what was to be said."""
        pairs = list(zip(waveforms, texts, strict=True))
        transcripts = [self.recogniser.transcribe([waveform])[0] for waveform, _ in self.progress(pairs, "listening")]
        return [word_errors(text, heard) for (_, text), heard in zip(pairs, transcripts, strict=True)]

    def progress(self, steps: Iterable[T], what: str) -> Iterable[T]:
        return tqdm(steps, desc=what, leave=False, disable=self.quiet)
