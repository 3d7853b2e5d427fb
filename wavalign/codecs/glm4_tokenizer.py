"""The GLM-4-Voice speech tokenizer: a Whisper encoder that ends in a codebook, 12.5 codes/s (arXiv 2412.02612).

The folder is ``THUDM/glm-4-voice-tokenizer`` as it is on the Hub: config.json, model.safetensors,
preprocessor_config.json. The encoder's layers are transformers' own; what GLM added to them (causal convolutions,
attention that sees whole blocks, pooling, the codebook) is here, so no code of another repository is needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

import wavalign.torchaudio_guard  # noqa: F401  (transformers may look for torchaudio)
from wavalign.audio import Waveform

SAMPLE_RATE = 16_000
SEGMENT_SECONDS = 30
"""Longer recordings are heard in segments of this length, as the positions of the encoder allow."""
FOLDER = "glm-4-voice-tokenizer"
_PREFIXES = ("model.encoder.", "encoder.", "model.")
_TRAINING_ONLY = ("ema_", "embed_positions2.", "layer_norm.", "decoder.", "proj_out.")


class Glm4Tokenizer(nn.Module):
    """Speech to codes in ``range(codebook_size)``, ``tokens_per_second`` of them."""

    sample_rate = SAMPLE_RATE

    def __init__(self, config: dict[str, Any], extractor: Any) -> None:
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoderLayer

        super().__init__()
        known = {name: value for name, value in config.items() if name not in ("architectures", "auto_map")}
        self.config = WhisperConfig(**known)
        self.config._attn_implementation = "sdpa"
        self.extractor = extractor
        self.pool = int(config["pooling_kernel_size"])
        self.pooled_after = int(config["pooling_position"])
        self.block = config.get("quantize_causal_block_size")
        self.codebook_size = int(config["quantize_vocab_size"])
        layers = int(config["quantize_position"])
        if config.get("pooling_type", "max") not in ("max", "avg"):
            raise ValueError(f"pooling_type must be max or avg, got {config['pooling_type']!r}")
        if not 0 < self.pooled_after <= layers:
            raise ValueError(f"pooling_position must be 1 to {layers}, got {self.pooled_after}")
        pooling = nn.MaxPool1d if config.get("pooling_type", "max") == "max" else nn.AvgPool1d
        self.pooling = pooling(self.pool)
        self.causal = bool(config.get("encoder_causal_convolution"))
        self.causal_attention = bool(config.get("encoder_causal_attention") or config.get("quantize_causal_encoder"))
        width = self.config.d_model
        padding = 0 if self.causal else 1
        self.conv1 = nn.Conv1d(self.config.num_mel_bins, width, 3, padding=padding)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=padding)
        self.embed_positions = nn.Embedding(self.config.max_source_positions, width)
        self.layers = nn.ModuleList(WhisperEncoderLayer(self.config) for _ in range(layers))
        self.codebook = nn.Embedding(self.codebook_size, width)
        self.tokens_per_second = SAMPLE_RATE / self._stride

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu") -> Glm4Tokenizer:
        """Raises:
        OSError, KeyError, ValueError, RuntimeError: when a file is missing, or the weights do not fit the config.
        """
        from transformers import WhisperFeatureExtractor

        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        extractor = WhisperFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
        tokenizer = cls(config, extractor)
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            raise FileNotFoundError(f"{folder} holds no model.safetensors")
        tokenizer.load_state_dict(_weights(files, len(tokenizer.layers)))
        return tokenizer.to(device).eval().requires_grad_(False)

    @property
    def _stride(self) -> int:
        """Samples behind one code."""
        return 2 * self.pool * self.extractor.hop_length

    @torch.inference_mode()
    def encode(self, waveform: Waveform) -> list[int]:
        """Speech at any rate to codes, one for each 80 ms (the last may be partly padding)."""
        samples = waveform.resampled(SAMPLE_RATE).samples
        size = SEGMENT_SECONDS * SAMPLE_RATE
        codes: list[int] = []
        for start in range(0, len(samples), size):
            codes += self._segment(samples[start : start + size])
        return codes

    def _segment(self, samples: np.ndarray) -> list[int]:
        made = self.extractor(
            [samples], sampling_rate=SAMPLE_RATE, padding="longest", pad_to_multiple_of=self._stride,
            return_attention_mask=True, return_tensors="np",
        )  # fmt: skip
        device = self.conv1.weight.device
        features = torch.from_numpy(np.asarray(made["input_features"], np.float32)).to(device)
        mask = torch.from_numpy(np.asarray(made["attention_mask"])).bool().to(device)
        codes, heard = self(features.to(self.conv1.weight.dtype), mask)
        return codes[0][heard[0]].tolist()

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-mel (B, mels, T) and mask (B, T), True on speech, to codes (B, T / 8) and which of them are of speech."""
        hidden = nn.functional.gelu(self.conv1(self._shifted(features)))
        hidden = nn.functional.gelu(self.conv2(self._shifted(hidden))).transpose(1, 2)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        mask, block = mask[:, ::2], self.block
        allowed = self._allowed(mask, block)
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, _additive(allowed, hidden.dtype))
            if number == self.pooled_after:
                short = -hidden.shape[1] % self.pool
                hidden = nn.functional.pad(hidden.transpose(1, 2), (0, short))
                hidden = self.pooling(hidden).transpose(1, 2)
                mask = mask[:, :: self.pool]
                allowed = self._allowed(mask, None if block is None else block // self.pool)
        flat = hidden.flatten(0, 1).float()
        book = self.codebook.weight.float()
        distance = torch.addmm((book**2).sum(1) + (flat**2).sum(1, keepdim=True), flat, book.t(), alpha=-2)
        return distance.argmin(1).view(hidden.shape[:2]), mask

    def _shifted(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.pad(x, (2, 0)) if self.causal else x

    def _allowed(self, mask: torch.Tensor, block: int | None) -> torch.Tensor:
        """bool (B, T, T): each frame sees what came before it and, in block-causal encoders, its whole block."""
        length = mask.shape[1]
        allowed = torch.ones(length, length, dtype=torch.bool, device=mask.device)
        if block is not None:
            number = torch.arange(length, device=mask.device) // block
            allowed = number[None, :] <= number[:, None]
        if self.causal_attention:
            allowed = allowed.tril()
        return allowed & mask[:, None, :]


def _additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def _weights(files: list[Path], layers: int) -> dict[str, torch.Tensor]:
    """The encoder's tensors up to the codebook, by the names used here."""
    found: dict[str, torch.Tensor] = {}
    for file in files:
        with safe_open(str(file), framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                name = next((key[len(prefix) :] for prefix in _PREFIXES if key.startswith(prefix)), key)
                deeper = name.startswith("layers.") and int(name.split(".")[1]) >= layers
                if not deeper and not name.startswith(_TRAINING_ONLY):
                    found[name] = stored.get_tensor(key)
    return found
