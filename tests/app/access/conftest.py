"""One running Space in each worker for all tests of this folder, and no longer than for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.assets import make_tiny_assets
from tests.app.space_server import Server, running_space


@pytest.fixture(scope="package")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="package")
def space(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    with running_space(home, assets, tmp_path_factory.mktemp("log") / "app.log") as server:
        yield server


@pytest.fixture(scope="package")
def config(space: Server) -> dict[str, Any]:
    """All of it, which only the host gets."""
    with space.host() as host:
        return host.get("/config").json()
