"""Teacher-forced scores of several completions of one prompt, with the prompt read once.

A *row* is a prompt and its completions one after another. Each completion sees the prompt and itself, through a block
mask, and its tokens have the positions they would have alone. Networks that do not take such a mask get one plain row
for each completion: the same numbers, more work.

Only the positions that are asked for are projected to the vocabulary: a hook hands the output head those alone, so
whatever a family does after its head (a scale, a soft cap) still happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from wavalign.models.channel_adapters import SpeechOf, speaking
from wavalign.models.logprobs import chosen_logprobs

_SAME = 2e-3
"""Nats by which packed and separate rows may differ in float32."""


@dataclass(frozen=True)
class Scored:
    """A completion and the indices of the tokens whose log-probabilities are wanted."""

    tokens: Sequence[int]
    wanted: Sequence[int]


@dataclass(frozen=True)
class SharedRow:
    """A prompt and completions of it."""

    prompt: Sequence[int]
    completions: Sequence[Scored]

    @property
    def length(self) -> int:
        """Positions that the network reads: the last token of a completion predicts nothing that is wanted."""
        return len(self.prompt) + sum(len(completion.tokens) - 1 for completion in self.completions)


@dataclass(frozen=True)
class FlatScores:
    """``logprobs`` (with gradients) and ``entropy`` (without), float32 (N,), in nats at temperature 1.

    N runs over rows, their completions, and their wanted tokens, in order.
    """

    logprobs: torch.Tensor
    entropy: torch.Tensor


def score_rows(
    module: nn.Module,
    network: nn.Module,
    rows: Sequence[SharedRow],
    packed: bool,
    speech_of: SpeechOf | None = None,
) -> FlatScores:
    """One forward over ``rows`` through ``module``: ``network`` (a causal LM) or what wraps it (PEFT, DDP).

    ``packed`` False splits every row into one for each completion. ``speech_of`` is needed where the active adapter is
    split by channel.
    """
    device = next(network.parameters()).device
    if not packed:
        rows = [SharedRow(row.prompt, [completion]) for row in rows for completion in row.completions]
    wanted = sum(len(completion.wanted) for row in rows for completion in row.completions)
    longest = max(row.length for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    positions = torch.zeros(len(rows), longest, dtype=torch.long)
    owner = torch.full((len(rows), longest), -1, dtype=torch.long)
    speech = torch.zeros(len(rows), longest, dtype=torch.bool)
    places, targets = [], []
    for index, row in enumerate(rows):
        end = len(row.prompt)
        ids[index, :end] = torch.tensor(row.prompt)
        positions[index, :end] = torch.arange(end)
        owner[index, :end] = 0
        for number, completion in enumerate(row.completions, start=1):
            size = len(completion.tokens) - 1
            tokens = torch.tensor(completion.tokens)
            part = slice(end, end + size)
            ids[index, part] = tokens[:-1]
            positions[index, part] = len(row.prompt) + torch.arange(size)
            owner[index, part] = number
            if speech_of is not None:  # a position holds one token and predicts the next
                speech[index, part] = torch.from_numpy(speech_of(completion.tokens)[1:])
            chosen = torch.as_tensor(completion.wanted, dtype=torch.long)
            before = torch.where(chosen == 0, len(row.prompt) - 1, end + chosen - 1)
            places.append(index * longest + before)
            targets.append(tokens[chosen])
            end += size
    if wanted == 0:
        empty = torch.zeros(0, device=device)
        return FlatScores(empty, empty)
    inputs: dict[str, Any] = {"input_ids": ids.to(device), "use_cache": False}
    if packed:
        inputs["position_ids"] = positions.to(device)
        inputs["attention_mask"] = _block_mask(owner.to(device), _mask_dtype(network, device))
    positions_of_speech = None if speech_of is None else speech.to(device)
    with _projecting(network, torch.cat(places).to(device)), speaking(network, positions_of_speech):
        logits = module(**inputs).logits
    return FlatScores(*chosen_logprobs(logits, torch.cat(targets).to(device)))


def packs(network: nn.Module, vocabulary: int) -> bool:
    """Whether ``network`` gives packed rows the numbers of separate ones; found out by trying both on a few tokens."""
    accepted = inspect.signature(network.forward).parameters
    if not {"position_ids", "attention_mask"} <= set(accepted):
        return False
    tokens = torch.arange(24).remainder(vocabulary).tolist()
    row = SharedRow(tokens[:5], [Scored(tokens[5:14], range(9)), Scored(tokens[12:20], range(8))])

    def by_turns(completion: Sequence[int]) -> np.ndarray:
        return np.arange(len(completion)) % 2 == 1

    with torch.no_grad():
        separate = score_rows(network, network, [row], False, by_turns).logprobs
        try:
            together = score_rows(network, network, [row], True, by_turns).logprobs
        except (ValueError, RuntimeError, TypeError, IndexError):  # families refuse such a mask each in their own way
            return False
    tolerance = _SAME if next(network.parameters()).dtype == torch.float32 else 0.1
    return together.shape == separate.shape and bool((together - separate).abs().max() < tolerance)


def _block_mask(owner: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask (B, 1, L, L) from the completion's number (B, L) at each position: 0 = prompt, -1 = padding."""
    length = owner.shape[1]
    query, key = owner[:, :, None], owner[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=owner.device).tril_()
    # Padding sees itself alone (the same owner), so that its softmax is a number.
    allowed = causal & (((key == 0) & (query >= 0)) | (key == query))
    mask = torch.zeros(allowed.shape, dtype=dtype, device=owner.device).masked_fill_(~allowed, -torch.inf)
    return mask[:, None]


def _mask_dtype(network: nn.Module, device: torch.device) -> torch.dtype:
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return next(network.parameters()).dtype


@contextmanager
def _projecting(network: nn.Module, places: torch.Tensor) -> Iterator[None]:
    """The output head sees hidden states (N, H) at ``places`` of the flattened (B * L, H)."""

    def gathered(_: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (arguments[0].flatten(0, 1)[places], *arguments[1:])

    hook = network.get_output_embeddings().register_forward_pre_hook(gathered)
    try:
        yield
    finally:
        hook.remove()
