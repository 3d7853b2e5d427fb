"""Clips to padded tensors: length-bucketed batches with the augmentations that are cheap on log-mels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from wavalign.codecs.fsq_world import LETTERS


def letter_classes(text: str) -> list[int]:
    """Text to CTC classes (0 is blank)."""
    return [LETTERS.index(letter) + 1 for letter in text]


def warp_formants(mel: torch.Tensor, factor: float) -> torch.Tensor:
    """Vocal-tract-length perturbation on log-mels (T, 80): bin k is read at k * factor, interpolated."""
    position = (torch.arange(mel.shape[1]) * factor).clamp(0, mel.shape[1] - 1)
    low = position.floor().long().clamp_max(mel.shape[1] - 2)
    share = position - low
    return mel[:, low] * (1 - share) + mel[:, low + 1] * share


def masked_bands(mel: torch.Tensor, rng: np.random.Generator, bands: int = 1, widest: int = 10) -> torch.Tensor:
    """SpecAugment's frequency masks (arXiv 1904.08779), filled with the clip's mean."""
    mel = mel.clone()
    for _ in range(bands):
        width = int(rng.integers(0, widest))
        start = int(rng.integers(0, mel.shape[1] - width))
        mel[:, start : start + width] = mel.mean()
    return mel


def equalised(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A smooth random frequency response (up to about 6 dB) and a gain."""
    knots = rng.normal(0, 0.25, 6)
    response = np.interp(np.arange(mel.shape[1]), np.linspace(0, mel.shape[1] - 1, 6), knots)
    return (mel + torch.as_tensor(response).to(mel) + float(rng.normal(0, 0.25))).clamp_min(np.log(1e-4))


@dataclass
class Padded:
    """Rows padded to the longest: ``values`` (B, T, ...), ``mask`` (B, T) with 1 on real frames."""

    values: torch.Tensor
    mask: torch.Tensor


def pad_rows(rows: list[torch.Tensor]) -> Padded:
    longest = max(len(row) for row in rows)
    values = torch.zeros(len(rows), longest, *rows[0].shape[1:], dtype=rows[0].dtype)
    mask = torch.zeros(len(rows), longest)
    for number, row in enumerate(rows):
        values[number, : len(row)] = row
        mask[number, : len(row)] = 1
    return Padded(values, mask)


def bucketed(lengths: list[int], batch: int, rng: np.random.Generator, pool: int = 24) -> Iterator[list[int]]:
    """Endless batches of row numbers; rows in a batch have similar lengths, epochs and batches are shuffled."""
    while True:
        order = rng.permutation(len(lengths))
        for start in range(0, len(order), batch * pool):
            chunk = sorted(order[start : start + batch * pool], key=lambda row: lengths[row])
            groups = [chunk[i : i + batch] for i in range(0, len(chunk), batch)]
            for group in rng.permutation(len(groups)):
                if len(groups[group]) == batch:
                    yield [int(row) for row in groups[group]]
