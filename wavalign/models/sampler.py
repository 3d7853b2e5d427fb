"""Draws one token for every row of a batch: masks, temperatures, top-k, top-p, repetition guard, a seed for each row.

A row's random numbers depend on its seed and the step alone (a counter-based generator), and each row is drawn by
inverse transform from its own distribution, so what else is in the batch does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from wavalign.models.grammar import FreeGrammar, Grammar
from wavalign.models.protocol import Sampling

_FIRST_CANDIDATES = 64
_ATTEMPTS = 4
"""Draws from the whole distribution before the nucleus is sorted out; all but the last few per cent need one."""
_ROUNDING = 1e-4  # more than a float32 softmax over a vocabulary is off
_BELOW_ONE = np.float32(1 - 2**-22)  # times a float32 sum this stays below the sum


def uniform_numbers(seed: int, stream: int, count: int) -> np.ndarray:
    """float32 (count,) in [0, 1): a pure function of ``seed`` and ``stream`` (Philox 4x64, Salmon et al. 2011)."""
    key = np.array([seed, stream], dtype=np.uint64)
    numbers = np.random.Generator(np.random.Philox(key=key)).random(count, dtype=np.float32)
    return np.minimum(numbers, _BELOW_ONE)


class Sampler:
    """The settings of B rows as arrays. ``streams`` tells apart rows of equal seeds (samples of one group)."""

    def __init__(
        self,
        grammar: Grammar | FreeGrammar,
        samplings: Sequence[Sampling],
        streams: Sequence[int],
        device: torch.device,
    ) -> None:
        self.device = device
        allowed = torch.from_numpy(grammar.masks).to(device)
        self.bias = torch.zeros(allowed.shape, device=device).masked_fill_(~allowed, -torch.inf)
        self.unmasked = bool(grammar.masks.all())
        heat = [
            [s.speech_temperature if speaks and s.speech_temperature is not None else s.temperature for s in samplings]
            for speaks in grammar.speaks
        ]
        self.temperature = np.array(heat, dtype=np.float64).T  # (B, masks)
        steps = max(s.max_tokens for s in samplings)
        keys = zip(samplings, streams, strict=True)
        each = _ATTEMPTS + 1
        numbers = [uniform_numbers(s.seed, stream, steps * each).reshape(steps, each) for s, stream in keys]
        self.numbers = np.stack(numbers)  # (B, steps, each)
        self.top_k = np.array([s.top_k for s in samplings])
        self.top_p = np.array([s.top_p for s in samplings], dtype=np.float32)
        self.window = np.array([s.repetition_window if s.repetition_penalty > 1 else 0 for s in samplings])
        self.penalty = np.array([s.repetition_penalty for s in samplings], dtype=np.float32)
        self._settle()

    def keep(self, rows: np.ndarray) -> None:
        for name in ("temperature", "numbers", "top_k", "top_p", "window", "penalty"):
            setattr(self, name, getattr(self, name)[rows])
        self._settle()

    def _settle(self) -> None:
        self.by_rank = np.flatnonzero(self.top_k > 0)
        self.by_mass = np.flatnonzero((self.top_k == 0) & (self.top_p < 1))
        self.one_temperature = float(self.temperature.flat[0]) if np.ptp(self.temperature) == 0 else None
        self.guarded = bool((self.window > 0).any())
        ordered = np.ascontiguousarray(self.numbers.transpose(1, 2, 0))
        self.uniforms = torch.from_numpy(ordered).to(self.device)[..., None]  # (steps, each, B, 1)

    def draw(self, logits: torch.Tensor, masks: np.ndarray, step: int, history: np.ndarray) -> torch.Tensor:
        """Tokens (B,) from logits (B, V).

        ``masks`` (B,) are rows of the grammar's masks; ``history`` (B, steps so far) are the tokens drawn before.
        """
        scores = logits
        if self.guarded and step:
            scores = self._penalised(scores, history)
        if not self.unmasked:
            first = int(masks[0])
            if (masks == first).all():
                scores = scores + self.bias[first]
            else:
                scores = scores + self.bias[torch.from_numpy(masks).to(self.device)]
        temperature = self.one_temperature
        if temperature is None:
            rows = self.temperature[np.arange(len(masks)), masks]
            if np.ptp(rows) == 0:
                temperature = float(rows[0])
        if temperature == 0:
            return scores.argmax(-1)
        if temperature is not None:
            return self._sampled(scores * (1 / temperature), step)
        greedy = rows == 0
        scale = torch.from_numpy((1 / np.where(greedy, 1, rows)).astype(np.float32)).to(self.device)
        tokens = self._sampled(scores * scale[:, None], step)
        if greedy.any():
            tokens = torch.where(torch.from_numpy(greedy).to(self.device), scores.argmax(-1), tokens)
        return tokens

    def _sampled(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        numbers = self.uniforms[step]
        if len(self.by_rank) == len(scores):
            return self._from_the_top(scores, numbers[-1], self.top_k, self.top_p)
        probabilities = torch.softmax(scores, -1)
        cumulative = probabilities.cumsum(-1)
        tokens = _inverse(cumulative, numbers[0])
        if len(self.by_mass):
            self._redraw_outside_nucleus(scores, probabilities, cumulative, numbers, tokens)
        if len(self.by_rank):
            rows = torch.from_numpy(self.by_rank).to(self.device)
            top_k, top_p = self.top_k[self.by_rank], self.top_p[self.by_rank]
            tokens[rows] = self._from_the_top(scores[rows], numbers[-1, rows], top_k, top_p)
        return tokens

    def _redraw_outside_nucleus(
        self,
        scores: torch.Tensor,
        probabilities: torch.Tensor,
        cumulative: torch.Tensor,
        numbers: torch.Tensor,
        tokens: torch.Tensor,
    ) -> None:
        """Top-p by rejection, in place: exact, and no vocabulary is sorted where a draw or two suffice.

        A token is in the nucleus when all likelier ones together hold less than top-p.
        """
        rows = self.by_mass
        for attempt in range(_ATTEMPTS):
            index = torch.from_numpy(rows).to(self.device)
            every = len(rows) == len(tokens)
            own = probabilities if every else probabilities[index]
            drawn = tokens if every else tokens[index]
            chosen = own.gather(-1, drawn[:, None])
            # What is likelier than a token holds at most what the token leaves: mostly that settles it.
            if (chosen[:, 0].cpu().numpy() > 1 + _ROUNDING - self.top_p[rows]).all():
                return
            likelier = (own * (own > chosen)).sum(-1)
            outside = likelier.cpu().numpy() >= self.top_p[rows]
            if not outside.any():
                return
            rows = rows[outside]
            index = torch.from_numpy(rows).to(self.device)
            if attempt + 1 < _ATTEMPTS:
                tokens[index] = _inverse(cumulative[index], numbers[attempt + 1, index])
        tokens[index] = self._from_the_top(scores[index], numbers[-1, index], self.top_k[rows], self.top_p[rows])

    def _from_the_top(
        self, scores: torch.Tensor, numbers: torch.Tensor, top_k: np.ndarray, top_p: np.ndarray
    ) -> torch.Tensor:
        """Top-k, then top-p within it, without sorting the vocabulary: a few candidates, doubled until they suffice."""
        size = scores.shape[-1]
        limit = np.where(top_k > 0, np.minimum(top_k, size), size)
        ranks_kept = torch.from_numpy(limit).to(self.device)[:, None]
        share = torch.from_numpy(top_p).to(self.device)[:, None]
        probabilities = torch.softmax(scores, -1)
        count = min(size, _FIRST_CANDIDATES)
        while True:
            values, ids = probabilities.topk(count, dim=-1)
            ranks = torch.arange(count, device=self.device)
            values = values.masked_fill(ranks >= ranks_kept, 0)
            before = values.cumsum(-1) - values
            # Without top-k the whole is 1; with it, top-p is of the mass that top-k kept.
            whole = torch.where(ranks_kept < size, before[:, -1:] + values[:, -1:], 1.0)
            enough = (ranks_kept <= count) | ((share < 1) & (before[:, -1:] >= share * whole) & (ranks_kept == size))
            if count == size or bool(enough.all()):
                break
            count = min(size, 2 * count)
        kept = values.masked_fill((before >= share * whole) & (share < 1), 0)
        return ids.gather(-1, _inverse(kept.cumsum(-1), numbers)[:, None])[:, 0]

    def _penalised(self, scores: torch.Tensor, history: np.ndarray) -> torch.Tensor:
        """Divides positive and multiplies negative logits of recent tokens (Keskar et al. 2019), within each window."""
        width = int(self.window.max())
        recent = torch.from_numpy(history[:, -width:].astype(np.int64)).to(self.device)
        age = np.arange(recent.shape[1])[::-1]
        strength = np.where(age[None] < self.window[:, None], self.penalty[:, None], 1).astype(np.float32)
        factor = torch.from_numpy(np.ascontiguousarray(strength)).to(self.device)
        strongest = torch.ones_like(scores).scatter_reduce_(-1, recent, factor, reduce="amax", include_self=True)
        return torch.where(scores > 0, scores / strongest, scores * strongest)


def _inverse(cumulative: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The first index (B,) whose cumulative probability (B, V) exceeds ``numbers`` (B, 1) of the whole."""
    return torch.searchsorted(cumulative, numbers * cumulative[:, -1:], right=True)[:, 0]
