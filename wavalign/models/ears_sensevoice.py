"""VITA-Audio-Plus hears through SenseVoice's encoder and a projector, both in the checkpoint and run by its own code.

That code needs funasr. What the encoder puts before the speech (language, emotion, event, text) makes four vectors more
than there are frames of 60 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wavalign.audio import Waveform
from wavalign.models.ears_code import at_least, filled, module_of, settings_of, shape_of

SAMPLE_RATE = 16_000


class SenseVoiceEars:
    """``encoder``: the checkpoint's ``AudioEncoder``, whose settings bring the front end that makes its frames."""

    seconds_per_token = 0.06

    def __init__(self, encoder: Any, projector: nn.Module, device: torch.device) -> None:
        self.encoder, self.projector, self.device = encoder, projector, device
        self.modules = {"model.audio_model.": encoder, "model.audio_projection.": projector}

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> SenseVoiceEars:
        """See ``Ears``. The encoder runs in bfloat16, which its code asks for."""
        encoder = module_of(folder, "modeling_sensevoice", "AudioEncoder").AudioEncoder(settings_of(folder))
        (width,) = shape_of(folder, "model.audio_projection.pre_proj_layernorm.weight")
        projector = module_of(folder, "resampler_projector", "ResamplerProjector").ResamplerProjector(
            width, int(config["hidden_size"])
        )
        ears = cls(encoder, projector, device)
        filled(ears.modules, folder)
        encoder.to(device, torch.bfloat16)
        projector.to(device, dtype)
        return ears

    def hear(self, waveform: Waveform) -> list[torch.Tensor]:
        samples = at_least(waveform, SAMPLE_RATE)
        frames, _ = self.encoder.kwargs["frontend"](samples[None], torch.tensor([len(samples)]))
        encoded, sizes = self.encoder([frames[0].to(self.device)])
        kind = next(self.projector.parameters()).dtype
        projected = self.projector(encoded.to(kind))
        return [projected[0, : int(sizes[0])]]
