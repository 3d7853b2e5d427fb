"""Kimi-Audio's speech: the GLM-4-Voice tokenizer in, its own detokenizer (flow matching, then BigVGAN) out.

Both are Python code that was published as a repository and not as a package, so they come from the host's checkout of
it; their weights from the checkpoint and from the hub's cache. 12.5 codes a second, 24 kHz.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wavalign.audio import Waveform
from wavalign.codecs.loading import CodecError

CHECKOUT = "WAVALIGN_KIMI_AUDIO"
"""Environment variable: the folder of the host's checkout of github.com/MoonshotAI/Kimi-Audio, with its submodules."""
_TOKENIZERS = ("THUDM/glm-4-voice-tokenizer", "zai-org/glm-4-voice-tokenizer")
_NEEDED = ("audio_detokenizer/config.yaml", "audio_detokenizer/model.pt", "vocoder/config.json", "vocoder/model.pt")
_PIECE = 30
"""Codes that the detokenizer is given at once, as the family's own program gives them."""
_NOISE_SEED = 0


class KimiAudioCodec:
    """A ``SpeechCodec``. ``tokenizer`` and ``detokenizer`` are the family's own objects."""

    sample_rate = 24_000
    tokens_per_second = 12.5
    codebook_size = 16_384

    def __init__(self, tokenizer: Any, detokenizer: Any, device: torch.device) -> None:
        self.tokenizer = tokenizer
        self.detokenizer = detokenizer
        self.device = device
        self._lock = threading.Lock()  # the detokenizer remembers the piece before

    @classmethod
    def from_checkpoint(
        cls, folder: Path, device: torch.device, environment: Mapping[str, str] = os.environ
    ) -> KimiAudioCodec:
        """From a checkpoint's folder and the host's checkout.

        Raises:
            CodecError: naming what is missing, and where to get it.
        """
        told = environment.get(CHECKOUT, "").strip()
        if not told or not (Path(told) / "kimia_infer").is_dir():
            raise CodecError(
                "its speech codec is code of a repository: clone github.com/MoonshotAI/Kimi-Audio with its submodules, "
                f"read it, and start the app with {CHECKOUT}=/path/to/Kimi-Audio."
            )
        absent = next((each for each in _NEEDED if not (folder / each).is_file()), None)
        if absent is not None:
            raise CodecError(f"{absent} is missing, a part of its detokenizer. Restore the folder.")
        if device.type != "cuda":
            raise CodecError("its detokenizer runs on a CUDA GPU alone. Choose such a device for it.")
        tokenizer_folder = _tokenizer_folder(folder)
        if told not in sys.path:
            sys.path.append(told)
        try:
            tokenizers = importlib.import_module("kimia_infer.models.tokenizer.glm4_tokenizer")
            detokenizers = importlib.import_module("kimia_infer.models.detokenizer")
            tokenizer = tokenizers.Glm4Tokenizer(str(tokenizer_folder)).to(device)
            detokenizer = detokenizers.get_audio_detokenizer(str(folder))
        except Exception as error:  # code that is not ours raises anything
            raise CodecError(
                f"the code in {told} cannot be used ({type(error).__name__}: {str(error).splitlines()[:1]}). Install "
                "what its requirements.txt names, with its submodules."
            ) from error
        return cls(tokenizer, detokenizer, device)

    @torch.inference_mode()
    def encode(self, waveform: Waveform) -> list[int]:
        samples = waveform.resampled(16_000).samples
        if not len(samples):
            return []
        speech = torch.from_numpy(np.ascontiguousarray(samples))[None]
        with self._lock:
            return self.tokenizer.tokenize(speech=speech, sr=16_000).flatten().tolist()

    encode_reply = encode

    def decode(self, codes: list[int]) -> Waveform:
        self._check(codes)
        return Waveform(self.spoken(codes, final=True), self.sample_rate)

    @torch.inference_mode()
    def spoken(self, codes: list[int], final: bool) -> np.ndarray:
        """Samples of ``codes`` from the first; not ``final``: of whole pieces, and as far as later ones change nothing.

        The flow starts from noise, which is seeded so that a reply always sounds the same.
        """
        if not codes:
            return np.zeros(0, np.float32)
        pieces = [codes[start : start + _PIECE] for start in range(0, len(codes), _PIECE)]
        made = []
        devices = [self.device] if self.device.type == "cuda" else []
        with self._lock, torch.random.fork_rng(devices=devices):
            torch.manual_seed(_NOISE_SEED)
            self.detokenizer.clear_states()
            for number, piece in enumerate(pieces, start=1):
                last = final and number == len(pieces)
                given = torch.tensor([piece], device=self.device)
                made.append(self.detokenizer.detokenize_streaming(given, is_final=last, upsample_factor=4))
            self.detokenizer.clear_states()
        return torch.cat([each.reshape(-1) for each in made]).float().cpu().numpy()

    def stream(self) -> KimiAudioStream:
        return KimiAudioStream(self)

    def _check(self, codes: list[int]) -> None:
        if codes and not (min(codes) >= 0 and max(codes) < self.codebook_size):
            raise ValueError(f"Codes must lie in 0..{self.codebook_size - 1}, got {min(codes)}..{max(codes)}.")


class KimiAudioStream:
    """A ``StreamingDecoder``. The detokenizer has room for one reply at a time, so the pieces before are made again."""

    def __init__(self, codec: KimiAudioCodec) -> None:
        self.codec = codec
        self.codes: list[int] = []
        self.made = 0
        self.given = 0

    def push(self, codes: list[int]) -> np.ndarray:
        self.codec._check(codes)
        self.codes += codes
        # The last whole piece may turn out to be the end, which sounds different: it waits for a code behind it.
        whole = max(0, len(self.codes) - 1) // _PIECE
        if whole == self.made:
            return np.zeros(0, np.float32)
        self.made = whole
        return self._new(self.codec.spoken(self.codes[: whole * _PIECE], final=False))

    def finish(self) -> np.ndarray:
        return self._new(self.codec.spoken(self.codes, final=True))

    def _new(self, samples: np.ndarray) -> np.ndarray:
        new = samples[self.given :]
        self.given = max(self.given, len(samples))
        return new


def _tokenizer_folder(folder: Path) -> Path:
    """Beside the checkpoint's weights, or in the hub's cache."""
    from huggingface_hub import snapshot_download

    beside = folder / "glm-4-voice-tokenizer"
    if (beside / "config.json").is_file():
        return beside
    for repo in _TOKENIZERS:
        try:
            return Path(snapshot_download(repo, local_files_only=True))
        except Exception:
            continue
    raise CodecError(
        f"the tokenizer that it hears through is not here: download {_TOKENIZERS[0]} (hf download), or put it into "
        f"{beside}."
    )
