"""Step-Audio 2 hears through a Whisper-like encoder and an adaptor, both in the checkpoint and run by its own code.

That code needs librosa. A vector stands for 80 ms; recordings are heard in segments of 25 s, each in marks of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wavalign.audio import Waveform
from wavalign.models.ears_code import at_least, filled, module_of, settings_of

SAMPLE_RATE = 16_000
SEGMENT = 25 * SAMPLE_RATE
PADDING = 479
"""Samples of silence behind a segment, as the family adds them."""


class StepAudioEars:
    seconds_per_token = 0.08

    def __init__(self, code: Any, encoder: Any, adapter: Any, mels: int, device: torch.device) -> None:
        self.code, self.encoder, self.adapter, self.mels, self.device = code, encoder, adapter, mels, device
        self.modules = {"encoder.": encoder, "adapter.": adapter}

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> StepAudioEars:
        """See ``Ears``."""
        code = module_of(folder, "modeling_step_audio_2", "StepAudio2ForCausalLM")
        told = settings_of(folder).audio_encoder_config
        encoder = code.AudioEncoder(
            told.n_mels, told.n_audio_ctx, told.n_audio_state, told.n_audio_head, told.n_audio_layer
        )
        adapter = code.Adaptor(told.n_audio_state, told.llm_dim, told.kernel_size, told.adapter_stride)
        ears = cls(code, encoder, adapter, int(told.n_mels), device)
        filled(ears.modules, folder)
        for module in (encoder, adapter):
            module.to(device, dtype)
        return ears

    def hear(self, waveform: Waveform) -> list[torch.Tensor]:
        samples = at_least(waveform, SAMPLE_RATE)
        kind = next(self.adapter.parameters()).dtype
        heard = []
        for start in range(0, len(samples), SEGMENT):
            mel = self.code.log_mel_spectrogram(samples[start : start + SEGMENT], n_mels=self.mels, padding=PADDING)
            frames = torch.tensor([mel.shape[1] - 2], dtype=torch.int32, device=self.device)
            encoded, sizes = self.encoder(mel[None].to(self.device, kind), frames)
            size = int((sizes[0] - 1) // 2 + 1)
            heard.append(self.adapter(encoded)[0, :size])
        return heard
