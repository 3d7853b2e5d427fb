"""A tiny base of each family that is an interleaved one; each file has its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.models.family_bases import load_bases, make_bases


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bases(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def bases(folders: Path) -> dict[str, Any]:
    return load_bases(folders)
