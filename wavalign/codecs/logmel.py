"""The log-mel front end that the codec and the recogniser share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

import wavalign  # noqa: F401  (installs the torchaudio guard)

SAMPLE_RATE = 16_000
FRAMES_PER_SECOND = 100
MELS = 80
FLOOR = 1e-4


@lru_cache(maxsize=1)
def _transform() -> torch.nn.Module:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        SAMPLE_RATE, n_fft=1024, hop_length=160, n_mels=MELS, f_min=0.0, f_max=8000.0, power=1.0, mel_scale="htk"
    )


def log_mel(samples: np.ndarray) -> torch.Tensor:
    """16 kHz samples (n,) to natural-log mel magnitudes (ceil(n / 160), 80), floored at 1e-4.

    A little noise is added below the floor: digital silence is not something that a microphone delivers.
    """
    frames = -(-len(samples) // 160)
    with torch.inference_mode():
        spectrum = _transform()(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)))
    return spectrum.clamp_min(FLOOR).log().T[:frames].clone()
