"""Kimi-Audio's speech: the GLM-4-Voice tokenizer in, its own detokenizer (flow matching, then BigVGAN) out at 24 kHz.

The detokenizer is code of the Kimi-Audio repository, run from the host's checkout; its weights are two folders of the
checkpoint. 12.5 codes a second.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.codecs.blocks import BlockStream, checked, fixed_noise
from wavalign.codecs.checkouts import Checkout
from wavalign.codecs.glm4_tokenizer import Glm4Tokenizer
from wavalign.codecs.glm4voice import TOKENIZER, open_tokenizer
from wavalign.codecs.parts import CodecError, find_part, first_words, need_files, said_by

SAMPLE_RATE = 24_000
BLOCK = 30
"""Codes that the detokenizer is given at once, as the family's own program gives them."""
CHECKOUT = Checkout("Kimi-Audio", "https://github.com/MoonshotAI/Kimi-Audio", "WAVALIGN_KIMI_AUDIO")
_FRAMES_PER_CODE = 4
_NEEDED = ("audio_detokenizer/config.yaml", "audio_detokenizer/model.pt", "vocoder/config.json", "vocoder/model.pt")


class KimiAudioCodec:
    """A ``SpeechCodec``. ``detokenizer`` is the checkout's ``PrefixStreamingFlowMatchingDetokenizer``."""

    def __init__(self, tokenizer: Glm4Tokenizer, detokenizer: Any, device: torch.device) -> None:
        self.tokenizer = tokenizer
        self.detokenizer = detokenizer
        self.device = device
        self.sample_rate = SAMPLE_RATE
        self.tokens_per_second = tokenizer.tokens_per_second
        self.codebook_size = tokenizer.codebook_size

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], base: Path, device: torch.device) -> KimiAudioCodec:
        """``parts`` may name other folders than the Hub's "tokenizer" and the checkpoint's own as "detokenizer".

        Raises:
            CodecError: when a part, or the checkout, is missing or does not fit.
        """
        folder = find_part(str(parts["detokenizer"]), base, "detokenizer") if parts.get("detokenizer") else base
        need_files(folder, _NEEDED, "The detokenizer")
        tokenizer = open_tokenizer(str(parts.get("tokenizer") or TOKENIZER), base, device)
        return cls(tokenizer, _detokenizer(folder, device), device)

    @staticmethod
    def missing(parts: Mapping[str, Any], base: Path | None) -> Iterator[str]:
        """See ``COMPOSED``."""
        tokenizer = str(parts.get("tokenizer") or TOKENIZER)
        return said_by([lambda: find_part(tokenizer, base, "tokenizer"), CHECKOUT.folder])

    def encode(self, waveform: Waveform) -> list[int]:
        return self.tokenizer.encode(waveform)

    encode_reply = encode

    def decode(self, codes: list[int]) -> Waveform:
        stream = self.stream()
        return Waveform(np.concatenate([stream.push(codes), stream.finish()]), SAMPLE_RATE)

    def stream(self) -> KimiAudioStream:
        return KimiAudioStream(self)


class KimiAudioStream(BlockStream):
    def __init__(self, codec: KimiAudioCodec) -> None:
        super().__init__(lambda: _Session(codec), (BLOCK,))
        self._size = codec.codebook_size

    def push(self, codes: list[int]) -> np.ndarray:
        return super().push(checked(codes, self._size))


class _Session:
    """One reply: the detokenizer's weights, and caches of its own."""

    def __init__(self, codec: KimiAudioCodec) -> None:
        self.device = codec.device
        own = copy.copy(codec.detokenizer)
        own.semantic_fm = copy.copy(own.semantic_fm)
        own.semantic_fm.ode_wrapper = copy.copy(own.semantic_fm.ode_wrapper)
        own.semantic_fm.scheduler = copy.copy(own.semantic_fm.scheduler)
        own.semantic_fm.scheduler.neural_ode = None  # it holds on to the wrapper that it was first used with
        own.clear_states()
        self.detokenizer = own

    @torch.inference_mode()
    def block(self, codes: list[int], last: bool) -> np.ndarray:
        given = torch.tensor([codes], device=self.device)
        with _on(self.device), fixed_noise(self.device):
            made = self.detokenizer.detokenize_streaming(given, is_final=last, upsample_factor=_FRAMES_PER_CODE)
        return made.reshape(-1).float().cpu().numpy()

    def close(self) -> None:
        self.detokenizer.clear_states()


def _detokenizer(folder: Path, device: torch.device) -> Any:
    with CHECKOUT.importable():
        made = CHECKOUT.module("kimia_infer.models.detokenizer").get_audio_detokenizer
        try:
            with _on(device):  # it takes whichever GPU is the current one
                return made(str(folder))
        except Exception as error:  # code of the checkout
            raise CodecError(
                f"The detokenizer in {folder} cannot be loaded: {first_words(error)}. It needs a CUDA GPU."
            ) from error


def _on(device: torch.device) -> Any:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
