"""The embedded recogniser: letters by CTC, snapped to a closed lexicon. What it hears is what word error rates use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from huggingface_hub import PyTorchModelHubMixin
from rapidfuzz.distance import Levenshtein
from torch import nn

from wavalign.audio import Waveform
from wavalign.codecs.convnext import ConvNeXtStack
from wavalign.codecs.fsq_world import CTC_CLASSES, collapse_ctc
from wavalign.codecs.logmel import MELS, SAMPLE_RATE, log_mel

STACK = 2
#: A heard word further than this from every word of the lexicon (edits / longer length) is left as it was heard.
SNAP_LIMIT = 0.5


@dataclass(frozen=True)
class Transcript:
    """``text``: words of the lexicon where one is near; ``raw``: letters as heard; ``fit``: 1 = every letter fits."""

    text: str
    raw: str
    fit: float


class Recogniser(nn.Module, PyTorchModelHubMixin):
    """Log-mel to letters at 50 Hz; a Hugging Face folder, the lexicon in its config."""

    def __init__(self, lexicon: list[str] | None = None, channels: int = 192, blocks: int = 7) -> None:
        super().__init__()
        self.lexicon = list(lexicon or [])
        self.register_buffer("mel_mean", torch.zeros(MELS))
        self.register_buffer("mel_std", torch.ones(MELS))
        self.enter = nn.Linear(STACK * MELS, channels)
        self.stack = ConvNeXtStack(channels, int(2.5 * channels), [None] * blocks)
        self.to_letters = nn.Linear(channels, CTC_CLASSES)

    def stacked(self, mel: torch.Tensor) -> torch.Tensor:
        """Log-mel (T, 80) to (ceil(T / 2), 160), standardised, with the utterance's own mean removed.

        Removing the mean cancels a microphone's frequency response.
        """
        missing = -len(mel) % STACK
        if missing:
            mel = torch.cat([mel, mel[-1:].expand(missing, -1)])
        centred = (mel - self.mel_mean) / self.mel_std
        return (centred - centred.mean(0)).reshape(-1, STACK * MELS)

    def forward(self, stacked: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, 160), mask (B, T) to CTC logits (B, T, 28)."""
        return self.to_letters(self.stack(self.enter(stacked), mask))

    @torch.inference_mode()
    def letters(self, waveform: Waveform) -> str:
        """The letters as heard, without the lexicon."""
        samples = waveform.resampled(SAMPLE_RATE).samples
        if len(samples) < SAMPLE_RATE // 20:
            return ""
        logits = self(self.stacked(log_mel(samples))[None])
        return collapse_ctc(logits[0].argmax(-1).tolist())

    def snapped(self, raw: str) -> Transcript:
        """Each heard word replaced by the nearest word of the lexicon, when one is near enough."""
        words, distances = [], []
        for heard in raw.split():
            nearest = min(self.lexicon, key=lambda word: (Levenshtein.normalized_distance(heard, word), word))
            distance = Levenshtein.normalized_distance(heard, nearest)
            words.append(nearest if distance <= SNAP_LIMIT else heard)
            distances.append(distance * len(heard))
        letters = sum(len(heard) for heard in raw.split())
        return Transcript(" ".join(words), raw, 1 - sum(distances) / letters if letters else 0.0)

    def transcribe_with_confidence(self, waveforms: list[Waveform]) -> list[Transcript]:
        return [self.snapped(self.letters(waveform)) for waveform in waveforms]

    def transcribe(self, waveforms: list[Waveform]) -> list[str]:
        return [transcript.text for transcript in self.transcribe_with_confidence(waveforms)]
