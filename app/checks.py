"""Gold battles and repeats: how far a rater can be relied on, and how much a side counts by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wavalign.audio import Waveform


@dataclass(frozen=True)
class CheckRules:
    """Shares of battles. Gold: one side is spoilt on purpose. Repeat: an earlier battle with its sides swapped."""

    gold_share: float = 0.04
    repeat_share: float = 0.05
    after_votes: int = 3
    """A rater's first votes are not checked: they learn what there is to hear."""
    repeat_gap: int = 8
    """A battle comes again after at least this many others."""


def spoiled(waveform: Waveform, rng: np.random.Generator) -> Waveform:
    """The same voice saying nothing: pieces of 0.12 to 0.2 s in another order, under noise 10 dB below the speech."""
    samples = waveform.samples
    pieces: list[np.ndarray] = []
    at = 0
    while at < len(samples):
        length = max(1, int(rng.uniform(0.12, 0.20) * waveform.sample_rate))
        pieces.append(samples[at : at + length])
        at += length
    order = rng.permutation(len(pieces))
    shuffled = np.concatenate([pieces[index] for index in order]) if pieces else samples
    level = float(np.sqrt(np.mean(shuffled**2))) if len(shuffled) else 0.0
    noise = rng.standard_normal(len(shuffled)) * level * 10 ** (-10 / 20)
    return Waveform((shuffled + noise).astype(np.float32), waveform.sample_rate)
