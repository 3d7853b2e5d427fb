"""What a run's checkpoint holds beside its numbers: the trained weights and the optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wavalign.training import checkpoints, sharding
from wavalign.training.trainee import Trainee

OPTIMISER = "optimiser.pt"


def save(
    place: Path,
    step: int,
    state: Mapping[str, Any],
    trainee: Trainee,
    optimiser: torch.optim.Optimizer,
    main: bool,
) -> None:
    """Writes the checkpoint of ``step`` where this is the ``main`` process; all of them must call it, because weights
    that are shared out come together for it."""
    weights, moments = trainee.state(main), sharding.optimiser_state(optimiser)

    def write(folder: Path) -> None:
        trainee.save_state(folder, weights)
        torch.save(moments, folder / OPTIMISER)

    if main:
        checkpoints.save(place, step, state, write)


def load(folder: Path, trainee: Trainee, optimiser: torch.optim.Optimizer) -> None:
    """Puts the weights and the optimiser of the checkpoint in ``folder`` back; all processes must call it."""
    trainee.load_state(folder)
    moments = torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True)
    sharding.set_optimiser_state(optimiser, moments, trainee.parameters)
