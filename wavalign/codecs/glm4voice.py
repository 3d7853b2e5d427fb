"""GLM-4-Voice's codec: its tokenizer, and its decoder (flow matching after CosyVoice, then HiFT) at 22.05 kHz.

The decoder is code of the GLM-4-Voice repository, run from the host's checkout; its weights are the folder
``THUDM/glm-4-voice-decoder``. VITA-Audio speaks with the same codec.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.codecs.blocks import BlockStream, checked, fixed_noise
from wavalign.codecs.checkouts import Checkout, check_recipe
from wavalign.codecs.glm4_tokenizer import Glm4Tokenizer
from wavalign.codecs.parts import CodecError, find_part, first_words, need_files, said_by

TOKENIZER, DECODER = "THUDM/glm-4-voice-tokenizer", "THUDM/glm-4-voice-decoder"
SAMPLE_RATE = 22_050
BLOCKS = (25, 50, 100, 150, 200)
"""Codes in a block, as the family's demo cuts them: short at first, so that speech begins early."""
LEAST = 10
"""Codes in the last block: the overlap with the block before is as long as 5."""
CHECKOUT = Checkout(
    "GLM-4-Voice", "https://github.com/zai-org/GLM-4-Voice", "WAVALIGN_GLM4_VOICE",
    ("", "cosyvoice", "third_party/Matcha-TTS"),
)  # fmt: skip


class Glm4VoiceCodec:
    """A ``SpeechCodec``. ``decoder`` is the checkout's ``AudioDecoder``."""

    def __init__(self, tokenizer: Glm4Tokenizer, decoder: Any, device: torch.device) -> None:
        self.tokenizer = tokenizer
        self.decoder = decoder
        self.device = device
        self.flow, self.hift = decoder.flow.eval(), decoder.hift.eval()
        self.sample_rate = SAMPLE_RATE
        self.tokens_per_second = tokenizer.tokens_per_second
        self.codebook_size = tokenizer.codebook_size

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any], base: Path, device: torch.device) -> Glm4VoiceCodec:
        """``parts`` may name other folders than the family's as "tokenizer" and "decoder".

        Raises:
            CodecError: when a part, or the checkout, is missing or does not fit.
        """
        tokenizer = open_tokenizer(str(parts.get("tokenizer") or TOKENIZER), base, device)
        return cls(tokenizer, _decoder(str(parts.get("decoder") or DECODER), base, device), device)

    @staticmethod
    def missing(parts: Mapping[str, Any], base: Path | None) -> Iterator[str]:
        """See ``COMPOSED``."""
        tokenizer, decoder = str(parts.get("tokenizer") or TOKENIZER), str(parts.get("decoder") or DECODER)
        return said_by(
            [
                lambda: find_part(tokenizer, base, "tokenizer"),
                lambda: find_part(decoder, base, "decoder"),
                CHECKOUT.folder,
            ]
        )

    def encode(self, waveform: Waveform) -> list[int]:
        return self.tokenizer.encode(waveform)

    encode_reply = encode

    def decode(self, codes: list[int]) -> Waveform:
        stream = self.stream()
        samples = [stream.push(codes), stream.finish()]
        return Waveform(np.concatenate(samples), SAMPLE_RATE)

    def stream(self) -> Glm4VoiceStream:
        return Glm4VoiceStream(self)


class Glm4VoiceStream(BlockStream):
    def __init__(self, codec: Glm4VoiceCodec) -> None:
        super().__init__(lambda: _Session(codec), BLOCKS, least=LEAST)
        self._size = codec.codebook_size

    def push(self, codes: list[int]) -> np.ndarray:
        return super().push(checked(codes, self._size))


class _Session:
    """Each block is decoded after the codes and the mel frames of all before it."""

    def __init__(self, codec: Glm4VoiceCodec) -> None:
        self.codec = codec
        self.name = str(uuid.uuid4())
        self.codes: list[int] = []
        self.mels: list[torch.Tensor] = []

    @torch.inference_mode()
    def block(self, codes: list[int], last: bool) -> np.ndarray:
        device = self.codec.device
        said = torch.cat(self.mels, -1).transpose(1, 2) if self.mels else torch.zeros(1, 0, 80, device=device)
        with fixed_noise(device):
            speech, mel = self.codec.decoder.token2wav(
                torch.tensor([codes], device=device),
                uuid=self.name,
                prompt_token=torch.tensor([self.codes], dtype=torch.int64, device=device),
                prompt_feat=said,
                finalize=last,
            )
        self.codes += codes
        self.mels.append(mel)
        return speech.reshape(-1).float().cpu().numpy()

    def close(self) -> None:
        self.codec.decoder.mel_overlap_dict.pop(self.name, None)
        self.codec.decoder.hift_cache_dict.pop(self.name, None)


def open_tokenizer(source: str, base: Path, device: torch.device | str = "cpu") -> Glm4Tokenizer:
    """The tokenizer alone: what hears a user in models that take its codes.

    Raises:
        CodecError: when it is missing or does not fit its config.
    """
    folder = find_part(source, base, "tokenizer")
    need_files(folder, ("config.json", "preprocessor_config.json"), "The speech tokenizer")
    try:
        return Glm4Tokenizer.from_pretrained(folder, device)
    except Exception as error:  # each library raises its own kind for a broken file
        raise CodecError(
            f"The speech tokenizer in {folder} cannot be loaded: {first_words(error)}. Download it again."
        ) from error


def _decoder(source: str, base: Path, device: torch.device) -> Any:
    folder = find_part(source, base, "decoder")
    need_files(folder, ("config.yaml", "flow.pt", "hift.pt"), "The speech decoder")
    check_recipe(folder / "config.yaml", CHECKOUT)
    with CHECKOUT.importable():
        made = CHECKOUT.module("flow_inference").AudioDecoder
        try:
            return made(
                config_path=str(folder / "config.yaml"),
                flow_ckpt_path=str(folder / "flow.pt"),
                hift_ckpt_path=str(folder / "hift.pt"),
                device=str(device),
            )
        except Exception as error:  # code of the checkout
            raise CodecError(f"The speech decoder in {folder} cannot be loaded: {first_words(error)}.") from error
