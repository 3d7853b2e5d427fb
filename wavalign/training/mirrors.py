"""The metrics in other people's viewers, for those who have them; the run's folder stays the truth."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from wavalign.training.config import ConfigError, TrainConfig

TRACKIO_NAME = "trackio.txt"


class Mirror(Protocol):
    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("tensorboard is on, but not installed; pip install tensorboard, or switch it off.") from (
                error
            )
        self.writer = SummaryWriter(str(folder))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Trackio:
    """A run named once for its folder, in which the name is kept: it goes on where the folder's does, and no other
    folder of that name joins it."""

    def __init__(self, project: str, config: TrainConfig, folder: Path) -> None:
        try:
            import trackio
        except ImportError as error:
            raise ConfigError("trackio is set, but not installed; pip install trackio, or leave it empty.") from error
        self.trackio = trackio
        kept = folder / TRACKIO_NAME
        if not kept.is_file():
            kept.write_text(f"{config.name}-{folder.resolve().name}-{secrets.token_hex(3)}\n", encoding="utf-8")
        name = kept.read_text(encoding="utf-8").strip()
        trackio.init(project=project, name=name, config=config.model_dump(mode="json"), resume="allow")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        self.trackio.finish()


def mirrors_of(config: TrainConfig, folder: Path) -> list[Mirror]:
    """Raises:
    ConfigError: when a mirror is asked for that is not installed.
    """
    mirrors: list[Mirror] = [TensorBoard(folder / "tensorboard")] if config.tensorboard else []
    return mirrors + ([Trackio(config.trackio, config, folder)] if config.trackio else [])
