"""One adapter for each channel: a text adapter and a speech adapter, each active only at its own positions.

A position belongs to the channel of the token that it *predicts*: to text where a word, or the mark that ends the
text, may come next; to speech at every other position of a reply (a speech token, or an end, comes next). The prompt
is text's: what was heard decides what is said. The layout's grammar says it before the token is drawn, so decoding and
teacher forcing agree.

At a position one adapter is active in all that is computed there, from the first layer to the last: the hidden state
that predicts the token, and the keys and values that later positions read. So no parameter is shared by the two
channels' own predictions, but speech still reads what the text adapter wrote at words, and the next words read what the
speech adapter wrote at sounds.

Both live in one plain PEFT folder: the first ranks of every matrix are the text adapter's, the others the speech
adapter's, and ``channels.json`` beside it says how many each has. Without that file the same weights would be one
adapter that is active everywhere, which is another model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wavalign.models.protocol import CheckpointError

CHANNELS_FILE = "channels.json"
SpeechOf = Callable[[Sequence[int]], np.ndarray]
"""A completion's tokens to bool (T,): True where the token is predicted at a position of speech."""

_HOLDER = "channel_gates"


@dataclass(frozen=True)
class ChannelRanks:
    """How many ranks of an adapter are text's (the first ones) and how many speech's (the others)."""

    text: int
    speech: int

    @property
    def whole(self) -> int:
        return self.text + self.speech

    @classmethod
    def read(cls, name: str, folder: Path) -> ChannelRanks | None:
        """What an adapter's folder says; None where one adapter serves all positions.

        Raises:
            CheckpointError: when the file is broken.
        """
        path = folder / CHANNELS_FILE
        if not path.is_file():
            return None
        try:
            ranks = cls(**json.loads(path.read_text(encoding="utf-8")))
            sound = all(type(count) is int and count > 0 for count in asdict(ranks).values())
        except (OSError, ValueError, TypeError):
            sound = False
        if not sound:
            raise CheckpointError(
                f'Adapter "{name}" is broken: {CHANNELS_FILE} must hold {{"text": ranks, "speech": ranks}}.'
            )
        return ranks

    def write(self, folder: Path) -> None:
        (folder / CHANNELS_FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


class ChannelGates:
    """Which adapters of a network are split by channel, and which positions of the forward under way are speech's."""

    def __init__(self) -> None:
        self.ranks: dict[str, ChannelRanks] = {}
        self.positions: dict[str, torch.Tensor] = {}

    def gate(self, adapter: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
        """A forward hook for a layer's down projection: at each position the other channel's ranks give 0."""
        first_of_speech = self.ranks[adapter].text

        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...], out: torch.Tensor) -> torch.Tensor:
            if adapter not in self.positions:
                raise RuntimeError(f'The adapter "{adapter}" is split by channel and was run without its positions.')
            speech = self.positions[adapter]
            own = torch.arange(out.shape[-1], device=out.device) >= first_of_speech
            return out * (own == speech[..., None]).to(out.dtype)

        return hook


def gates_of(network: nn.Module) -> ChannelGates | None:
    """None where no adapter of ``network`` is split."""
    return getattr(network, _HOLDER, None)


def split(network: nn.Module, adapter: str, ranks: ChannelRanks) -> None:
    """Makes ``adapter``, which is attached to ``network``, two: from now on it needs ``speaking`` around a forward.

    Raises:
        CheckpointError: when a matrix of the adapter has another rank.
    """
    downs = [
        module.lora_A[adapter] for module in network.modules() if adapter in getattr(module, "lora_A", nn.ModuleDict())
    ]
    odd = [down.out_features for down in downs if down.out_features != ranks.whole]
    if odd or not downs:
        raise CheckpointError(
            f'Adapter "{adapter}" has matrices of rank {odd[0] if odd else 0}, but {CHANNELS_FILE} shares out '
            f"{ranks.text} + {ranks.speech}."
        )
    gates = gates_of(network) or ChannelGates()
    setattr(network, _HOLDER, gates)
    if adapter in gates.ranks:
        return
    gates.ranks[adapter] = ranks
    hook = gates.gate(adapter)
    for down in downs:
        down.register_forward_hook(hook)


@contextmanager
def speaking(
    network: nn.Module, speech: torch.Tensor | None, adapters: Sequence[str | None] | None = None
) -> Iterator[None]:
    """For the forwards inside: ``speech`` bool (B, L), True at speech's positions, or None when nothing is known.

    ``adapters`` names each row's where a batch mixes them: every adapter then sees its own rows only, as PEFT hands
    them over. Without split adapters this does nothing.
    """
    gates = gates_of(network)
    if gates is None or speech is None:
        yield
        return
    before = gates.positions
    gates.positions = {name: _rows(speech, name, adapters) for name in gates.ranks}
    try:
        yield
    finally:
        gates.positions = before


def _rows(speech: torch.Tensor, adapter: str, adapters: Sequence[str | None] | None) -> torch.Tensor:
    if adapters is None:
        return speech
    chosen = [row for row, name in enumerate(adapters) if name == adapter]
    return speech[torch.tensor(chosen, dtype=torch.long, device=speech.device)]


def halves(ranks: Mapping[str, ChannelRanks], adapter: str) -> tuple[slice, slice | None]:
    """The ranks of ``adapter`` that are active at text's positions, and at speech's; None: the same everywhere."""
    own = ranks.get(adapter)
    return (slice(None), None) if own is None else (slice(0, own.text), slice(own.text, own.whole))
