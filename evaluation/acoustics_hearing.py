"""Who listens to replies: the embedded recogniser, or Whisper where its weights are on this machine.

The embedded one knows the words of ClosedTalk and hears nothing else. A reply with other words is not measured by it,
and is counted: a word error rate of 90 % there would be the recogniser's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from wavalign.audio import Waveform
from wavalign.metrics.recogniser import Recogniser
from wavalign.metrics.wer import normalise

EMBEDDED, NOBODY = "embedded", "none"
RECOGNISER_FOLDER = "closedtalk-recogniser"
_WHISPER_RATE = 16_000


class HearingError(ValueError):
    """A recogniser that cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Transcript:
    """``text`` is None where nobody listened, with the reason in ``failed`` where somebody should have."""

    text: str | None
    failed: str = ""


class Hearing(Protocol):
    name: str
    unavailable: str
    """Empty where it can listen."""

    def hear(self, replies: Sequence[tuple[str, Waveform]]) -> list[Transcript]:
        """One for each (text channel, waveform)."""

    def comparable(self, text: str, heard: str) -> tuple[str, str]:
        """Both written the way this recogniser writes."""


def open_hearing(name: str, assets: Path) -> Hearing:
    """``embedded``, ``none``, or a Whisper checkpoint: a folder, or a hub id that is in the local cache.

    Raises:
        HearingError: when it is not there.
    """
    if name == NOBODY:
        return Nobody("Nobody listens (--recogniser none).")
    if name == EMBEDDED:
        folder = assets / RECOGNISER_FOLDER
        if not (folder / "config.json").is_file():
            return Nobody(f"There is no recogniser in {folder}: restore the assets, or name one with --recogniser.")
        return Embedded(folder)
    return Whisper(name)


class Nobody:
    name = NOBODY

    def __init__(self, why: str) -> None:
        self.unavailable = why

    def hear(self, replies: Sequence[tuple[str, Waveform]]) -> list[Transcript]:
        return [Transcript(None)] * len(replies)

    def comparable(self, text: str, heard: str) -> tuple[str, str]:
        return text, heard


class Embedded:
    name = EMBEDDED
    unavailable = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _recogniser(self) -> Recogniser:
        return Recogniser.from_pretrained(str(self.folder)).eval()

    @cached_property
    def _lexicon(self) -> frozenset[str]:
        return frozenset(self._recogniser.lexicon)

    def hear(self, replies: Sequence[tuple[str, Waveform]]) -> list[Transcript]:
        return [self._hear(text, waveform) for text, waveform in replies]

    def comparable(self, text: str, heard: str) -> tuple[str, str]:
        return text, heard

    def _hear(self, text: str, waveform: Waveform) -> Transcript:
        unknown = [word for word in normalise(text).split() if word not in self._lexicon]
        if unknown:
            return Transcript(
                None,
                f'the embedded recogniser does not know "{unknown[0]}" (use --recogniser with a Whisper checkpoint)',
            )
        return Transcript(self._recogniser.transcribe([waveform])[0])


class Whisper:
    """A Whisper checkpoint through transformers, from this machine only. English: numbers are written alike."""

    unavailable = ""

    def __init__(self, name: str) -> None:
        import wavalign.torchaudio_guard  # noqa: F401

        # isort: split
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self.name = name
        try:
            self._processor = WhisperProcessor.from_pretrained(name, local_files_only=True)
            model = WhisperForConditionalGeneration.from_pretrained(name, local_files_only=True)
        except (OSError, ValueError) as error:
            raise HearingError(
                f'The recogniser "{name}" is not on this machine: download a Whisper checkpoint first (hf download '
                f"openai/whisper-small), name its folder, or use --recogniser {EMBEDDED}."
            ) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = model.to(self._device).eval()

    @torch.inference_mode()
    def hear(self, replies: Sequence[tuple[str, Waveform]]) -> list[Transcript]:
        return [Transcript(self._one(waveform)) for _, waveform in replies]

    def comparable(self, text: str, heard: str) -> tuple[str, str]:
        return self._numbers(text), self._numbers(heard)

    def _one(self, waveform: Waveform) -> str:
        samples = waveform.resampled(_WHISPER_RATE).samples
        if not len(samples):
            return ""
        # Replies beyond Whisper's 30 s are heard in pieces rather than cut.
        pieces = [samples[start : start + 30 * _WHISPER_RATE] for start in range(0, len(samples), 30 * _WHISPER_RATE)]
        words = []
        for piece in pieces:
            features = self._processor(piece, sampling_rate=_WHISPER_RATE, return_tensors="pt").input_features
            ids = self._model.generate(features.to(self._device), do_sample=False, num_beams=1)
            words.append(self._processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
        return " ".join(words)

    @cached_property
    def _number_normalizer(self) -> Any:
        from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer

        return EnglishNumberNormalizer()

    def _numbers(self, text: str) -> str:
        return str(self._number_normalizer(normalise(text)))
