"""The steps of loading one checkpoint: fetch, estimate, make room, open, attach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wavalign.models import static_engine
from wavalign.models.memory_estimate import Estimate, estimate_folder
from wavalign.models.protocol import Checkpoint, CheckpointError
from wavalign.models.registry_bases import Loaded, LoadedBases, holding
from wavalign.models.registry_layouts import Layout
from wavalign.models.registry_progress import Tell, telling_weights


def fetched(place: Path | str, revision: str | None, tell: Tell) -> Path:
    """The folder of a base or an adapter, downloaded if it is a hub id that is not here.

    Raises:
        CheckpointError: one sentence.
    """
    if isinstance(place, Path):
        return place
    from wavalign.models.registry_hub import download

    return download(place, revision or "main", tell)


def opened(bases: LoadedBases, base: Checkpoint, folder: Path, layout: Layout, trusted: bool, tell: Tell) -> Loaded:
    """A base in memory, among ``bases``; what it needs is put away before, and a second time where that failed.

    Raises:
        CheckpointError: one sentence.
    """
    device = device_of(base.device)
    dtype = None if base.dtype == "auto" else getattr(torch, base.dtype)
    try:
        estimate = estimate_folder(folder, base.dtype, device.type)
    except CheckpointError:
        estimate = Estimate(0, 0, 0, 0)  # the loader says what is wrong with the files
    bases.make_room(base.name, estimate, str(device))

    def load() -> Any:
        with telling_weights(base.name, tell):
            return layout.opened().load_base(base.name, folder, device, dtype, trusted)

    if layout.name != "interleaved":
        static_engine.unused(f"{layout.name} checkpoints")
    held = holding(load, bases.drop_idle, base.name, estimate)
    return bases.put(base.name, layout.name, str(device), held, folder)


def attached(loader: Any, loaded: Loaded, name: str, folder: Path) -> str:
    """The name of an adapter on a base.

    Raises:
        CheckpointError: one sentence; the base is as it was.
    """
    return holding(lambda: loader.attach(loaded.base, name, folder), list, name, Estimate(0, 0, 0, 0))


def device_of(name: str) -> torch.device:
    """``auto`` is a GPU when there is one.

    Raises:
        CheckpointError: when there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    known = device is not None and (
        device.type == "cpu"
        or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
        or (device.type == "mps" and torch.backends.mps.is_available())
    )
    if not known:
        raise CheckpointError(f"There is no device {name} here. Choose auto or cpu.")
    return device
