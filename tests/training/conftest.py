from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny_run import make_assets


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_assets(tmp_path_factory.mktemp("training-assets"))
