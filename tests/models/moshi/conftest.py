"""A tiny Moshi with an adapter, and transformers' own model of it; each file has its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wavalign.torchaudio_guard  # noqa: F401

# isort: split
import pytest
from transformers import MoshiForConditionalGeneration

from tests.models import tiny_moshi
from wavalign.models.registry import Registry


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_moshi.make_assets(tmp_path_factory.mktemp("moshi"))


@pytest.fixture(scope="module")
def model(assets: Path) -> Any:
    return Registry(assets).load(["moshi", "tuned"])


@pytest.fixture(scope="module")
def original(assets: Path) -> Any:
    return MoshiForConditionalGeneration.from_pretrained(str(assets / "moshi"))
