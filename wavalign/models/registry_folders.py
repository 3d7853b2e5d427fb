"""What a checkpoint's folder says of itself: its layout, its config, where it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from wavalign.models.description import LAYOUT_FILE
from wavalign.models.protocol import Checkpoint, CheckpointError
from wavalign.models.registry_layouts import LAYOUTS, Layout, layout_of


def read_json(name: str, path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, or a ``CheckpointError`` about checkpoint ``name``."""
    if not path.is_file():
        raise CheckpointError(f'Checkpoint "{name}" is incomplete: {path.name} is missing. Restore the folder.')
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f'Checkpoint "{name}" is broken: {path.name} is not valid JSON.') from error
    if not isinstance(data, dict):
        raise CheckpointError(f'Checkpoint "{name}" is broken: {path.name} does not hold a JSON object.')
    return data


def layout_in(name: str, folder: Path) -> Layout:
    """The line of the table that fits.

    Raises:
        CheckpointError: when none does.
    """
    return layout_of({path.name for path in folder.iterdir()} if folder.is_dir() else (), config_in(folder), name)


def is_marked(folder: Path) -> bool:
    """Whether a layout description stands beside the weights."""
    return any(layout.marker and (folder / layout.marker).is_file() for layout in LAYOUTS)


def is_base(folder: Path) -> bool:
    """Whether it is a folder of a known layout."""
    if not folder.is_dir():
        return False
    try:
        layout_in(folder.name, folder)
    except CheckpointError:
        return False
    return True


def config_in(folder: Path) -> dict[str, Any] | None:
    """What ``config.json`` says; None where there is none to read (loading says what is wrong with it)."""
    return _told(folder / "config.json")


def described_in(folder: Path) -> dict[str, Any] | None:
    """What the layout description beside the weights says; None where there is none to read."""
    return _told(folder / LAYOUT_FILE)


def _told(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def stamp_of(checkpoint: Checkpoint) -> tuple[str, int, int] | None:
    """Tells an adapter's files from others of the same name; None for a base, or while they are not here."""
    if not isinstance(checkpoint.adapter, Path):
        return None
    path = checkpoint.adapter / "adapter_model.safetensors"
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_mtime_ns, status.st_size


def provenance_of(folder: Path) -> dict[str, Any]:
    """``provenance.json``, else the front matter of the model card, else nothing."""
    if (folder / "provenance.json").is_file():
        return read_json(folder.name, folder / "provenance.json")
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        if text.startswith("---\n") and "\n---" in text[4:]:
            try:
                matter = yaml.safe_load(text[4 : text.index("\n---", 4)])
            except yaml.YAMLError as error:
                raise CheckpointError(
                    f'The model card of "{folder.name}" has front matter that is not YAML.'
                ) from error
            return matter if isinstance(matter, dict) else {}
    return {}
