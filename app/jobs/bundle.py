"""A run as one zip file."""

from __future__ import annotations

import zipfile
from pathlib import Path

LEFT_OUT = "optimiser.pt"
"""Of a checkpoint, what only going on needs, and what is most of its size."""


def bundle(folder: Path, target: Path) -> None:
    """Packs everything but optimiser states; what a run that is under way replaces meanwhile is left out.

    Raises:
        OSError: when it cannot be written.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            inner = path.relative_to(folder)
            if path.name == LEFT_OUT or any(part.startswith(".") for part in inner.parts):
                continue
            try:
                if path.is_file():
                    packed.write(path, Path(folder.name) / inner)
            except FileNotFoundError:  # an old checkpoint was removed in this moment
                continue
