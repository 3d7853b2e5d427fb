"""Completions with their per-token weights, grouped by prompt, and as the flat tensors that objectives take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from wavalign.models.shared_rows import Scored, SharedRow

_UNSET = np.zeros(0, dtype=np.float32)


@dataclass
class Completion:
    """One completion in a batch; all arrays are float32 (T,) unless said otherwise, T its number of tokens.

    ``channels`` int8. ``gain`` is the normaliser of the preference term, 0 where it does not reach; ``mix`` the weight
    lambda of that term; ``advantage`` what moves it. ``demonstration`` is the weight of the token's negative
    log-likelihood, ``divergence`` that of its distance from the reference, ``compared`` that of its preference pair
    where its likelihood is part of the comparison. ``behaviour`` is the log-probability with which the token was drawn
    where somebody else than the policy drew it, else not a number. ``side`` is +1 for the chosen reply of a pair, -1
    for the rejected one, 0 for neither. A ``target`` is a demonstration: its log-probabilities are wanted even where
    nothing is learned from them.
    """

    tokens: Sequence[int]
    channels: np.ndarray
    gain: np.ndarray = field(default_factory=lambda: _UNSET)
    mix: np.ndarray = field(default_factory=lambda: _UNSET)
    advantage: np.ndarray = field(default_factory=lambda: _UNSET)
    demonstration: np.ndarray = field(default_factory=lambda: _UNSET)
    divergence: np.ndarray = field(default_factory=lambda: _UNSET)
    compared: np.ndarray = field(default_factory=lambda: _UNSET)
    behaviour: np.ndarray = field(default_factory=lambda: _UNSET)
    target: bool = False
    side: int = 0

    def __post_init__(self) -> None:
        for name in ("gain", "mix", "advantage", "demonstration", "divergence", "compared"):
            if getattr(self, name) is _UNSET:
                setattr(self, name, np.zeros(len(self.tokens), dtype=np.float32))
        if self.behaviour is _UNSET:
            self.behaviour = np.full(len(self.tokens), np.nan, dtype=np.float32)

    @property
    def wanted(self) -> np.ndarray:
        """Indices of the tokens whose log-probabilities are needed."""
        some = (self.gain != 0) | (self.demonstration != 0) | (self.divergence != 0) | (self.compared != 0)
        return np.flatnonzero(some | self.target)


@dataclass
class Unit:
    """A prompt and its completions: what one packed row holds, and what is never split."""

    prompt: Sequence[int]
    completions: list[Completion]

    @property
    def row(self) -> SharedRow:
        return SharedRow(self.prompt, [Scored(c.tokens, c.wanted) for c in self.completions])


@dataclass(frozen=True)
class Flat:
    """The wanted tokens of some units, in the order in which ``score_rows`` gives them; all of shape (N,).

    ``row`` numbers the completions from 0, ``target`` is True on demonstrations, ``side`` is (rows,).
    """

    row: torch.Tensor
    channel: torch.Tensor
    gain: torch.Tensor
    mix: torch.Tensor
    advantage: torch.Tensor
    demonstration: torch.Tensor
    divergence: torch.Tensor
    compared: torch.Tensor
    behaviour: torch.Tensor
    target: torch.Tensor
    side: torch.Tensor


def flatten(units: Sequence[Unit], device: torch.device) -> Flat:
    """The per-token columns of ``units`` on ``device``."""
    completions = [completion for unit in units for completion in unit.completions]
    wanted = [completion.wanted for completion in completions]
    sizes = [len(each) for each in wanted]

    def column(name: str) -> torch.Tensor:
        values = [getattr(c, name)[w] for c, w in zip(completions, wanted, strict=True)]
        return torch.from_numpy(np.concatenate(values) if values else np.zeros(0, np.float32)).to(device)

    def repeated(values: Sequence[int | bool], kind: type) -> torch.Tensor:
        return torch.from_numpy(np.repeat(np.array(values, dtype=kind), sizes)).to(device)

    return Flat(
        row=repeated(range(len(completions)), np.int64),
        channel=column("channels"),
        gain=column("gain"),
        mix=column("mix"),
        advantage=column("advantage"),
        demonstration=column("demonstration"),
        divergence=column("divergence"),
        compared=column("compared"),
        behaviour=column("behaviour"),
        target=repeated([c.target for c in completions], np.bool_),
        side=torch.tensor([c.side for c in completions], device=device),
    )


def micro_batches(units: Sequence[Unit], size: int) -> Iterator[list[int]]:
    """Places of ``units`` in groups of ``size``, rows of like lengths together, so that little is padded.

    Every process must make the same number of groups; with as many units each, they do.
    """
    order = sorted(range(len(units)), key=lambda place: (units[place].row.length, place))
    for start in range(0, len(order), size):
        yield order[start : start + size]
