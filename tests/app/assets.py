"""Checkpoints for tests of the app: the shipped ones, or random weights in the same folders."""

from __future__ import annotations

from pathlib import Path

from tests.evaluation.shipped import make_assets
from tests.tiny import make_tiny_adapter


def make_tiny_assets(folder: Path) -> Path:
    """A base, an adapter on it, a recogniser and delivery references, all tiny and untrained."""
    make_assets(folder)
    make_tiny_adapter(folder / "closedtalk-tuned", folder / "closedtalk-base", base_name="closedtalk-base")
    return folder
