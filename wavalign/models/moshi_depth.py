"""Moshi's depth transformer with one linear module for each code book, as adapters need them.

Transformers keeps the weights of all books of a layer in one stacked parameter, which PEFT cannot adapt row by row.
Here each book has a plain ``nn.Linear``: the same numbers, an adapter on each book like on any other module. Saving
stacks them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers.models.moshi.modeling_moshi import MoshiFlexibleLinear

_BOOKS = ".books."


class BookLinear(nn.Module):
    """One linear map for each place of a sequence: text token, then codes."""

    def __init__(self, stacked: torch.Tensor) -> None:
        """``stacked`` (places, out, in)."""
        super().__init__()
        places, size_out, size_in = stacked.shape
        self.books = nn.ModuleList()
        for place in range(places):
            linear = nn.Linear(size_in, size_out, bias=False, device="meta")
            linear.weight = nn.Parameter(stacked[place].detach().clone(), requires_grad=stacked.requires_grad)
            self.books.append(linear)

    def forward(self, inputs: torch.Tensor, places: Sequence[int] | torch.Tensor | None = None) -> torch.Tensor:
        """(N, S, in) to (N, S, out), the s-th of them by ``places[s]``; inputs (N, 1, in) go to every place."""
        chosen = range(len(self.books)) if places is None else places
        chosen = chosen.tolist() if isinstance(chosen, torch.Tensor) else chosen
        one = inputs.shape[1] == 1
        return torch.stack([self.books[p](inputs[:, 0 if one else i]) for i, p in enumerate(chosen)], 1)


def unstack(depth: nn.Module) -> None:
    """Replaces the stacked maps of a ``MoshiDepthDecoder``, in place."""
    for path, module in list(depth.named_modules()):
        if isinstance(module, MoshiFlexibleLinear):
            parent, _, name = path.rpartition(".")
            setattr(depth.get_submodule(parent), name, BookLinear(module.weight))


def stacked(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes that transformers reads."""
    made: dict[str, Any] = {}
    for name, tensor in tensors.items():
        before, inside, after = name.partition(_BOOKS)
        if inside:
            made.setdefault(f"{before}.weight", {})[int(after.split(".")[0])] = tensor
        else:
            made[name] = tensor
    return {
        name: torch.stack([each[place] for place in sorted(each)]) if isinstance(each, dict) else each
        for name, each in made.items()
    }
