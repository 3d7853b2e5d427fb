"""Tiny random-weight checkpoints, made once a session: a base, two adapters, their codec."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.registry import Registry

_HOST = ("WAVALIGN_TRUST_REMOTE_CODE", "WAVALIGN_GLM4_VOICE")


@pytest.fixture(scope="module", autouse=True)
def _trust() -> Iterator[None]:
    """What a builder lets run is let run in its own module alone."""
    before = {name: os.environ.get(name) for name in _HOST}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    base = tiny.make_tiny_checkpoint(folder / "tiny-base")
    tiny.make_tiny_adapter(folder / "tiny-tuned", base, seed=1)
    tiny.make_tiny_adapter(folder / "tiny-other", base, seed=2, rank=2)
    return folder


@pytest.fixture(scope="session")
def model(assets: Path) -> InterleavedModel:
    """Base and both adapters over one set of base weights."""
    return Registry(assets).load(["tiny-base", "tiny-tuned", "tiny-other"])
