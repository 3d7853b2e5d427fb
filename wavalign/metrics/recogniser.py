"""The embedded recogniser: letters by CTC, words by a closed lexicon. What it hears is what word error rates use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from rapidfuzz.distance import Levenshtein
from torch import nn

from wavalign.audio import Waveform
from wavalign.codecs.convnext import ConvNeXtStack
from wavalign.codecs.fsq_world import CTC_CLASSES, collapse_ctc
from wavalign.codecs.logmel import MELS, SAMPLE_RATE, log_mel
from wavalign.metrics.lexicon_decoding import LexiconDecoder

STACK = 2


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
    def letter_log_probs(self, waveform: Waveform) -> np.ndarray:
        """Log-probabilities of CTC classes at 50 Hz, (T, 28); none for less than 50 ms."""
        samples = waveform.resampled(SAMPLE_RATE).samples
        if len(samples) < SAMPLE_RATE // 20:
            return np.zeros((0, CTC_CLASSES))
        return self(self.stacked(log_mel(samples))[None])[0].log_softmax(-1).numpy()

    def read(self, log_probs: np.ndarray) -> Transcript:
        """CTC log-probabilities (T, 28), this model's or a codec's, to the likeliest words of the lexicon."""
        raw = collapse_ctc(log_probs.argmax(-1).tolist()) if len(log_probs) else ""
        if not raw:
            return Transcript("", "", 0.0)
        text = " ".join(self._decoder.decode(log_probs))
        return Transcript(text, raw, 1 - Levenshtein.normalized_distance(raw, text))

    @cached_property
    def _decoder(self) -> LexiconDecoder:
        return LexiconDecoder(self.lexicon)

    def transcribe_with_confidence(self, waveforms: list[Waveform]) -> list[Transcript]:
        return [self.read(self.letter_log_probs(waveform)) for waveform in waveforms]

    def transcribe(self, waveforms: list[Waveform]) -> list[str]:
        return [transcript.text for transcript in self.transcribe_with_confidence(waveforms)]
