"""The arena's tests run on both databases; without PostgreSQL on this machine they say so and skip that half."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store import Store, open_store
from tests.app import postgres
from tests.app.arena import Arena, make_arena


@pytest.fixture
def borrowed_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A GPU can be borrowed by the call; where each call is noted, a line of JSON each."""
    noted = tmp_path / "calls.jsonl"
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "borrowed"))
    monkeypatch.delitem(sys.modules, "spaces", raising=False)
    monkeypatch.setenv("FAKE_SPACES_LOG", str(noted))
    yield noted
    if spaces := sys.modules.pop("spaces", None):
        spaces.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    try:
        with postgres.server() as url:
            yield url
    except postgres.NoServerError as error:
        pytest.skip(f"Not run on PostgreSQL: {error}.")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """A database URL for ``open_store``; None is the SQLite file of the home folder."""
    if request.param == "sqlite":
        return None
    return postgres.make_database(request.getfixturevalue("postgres_server"), f"arena_{secrets.token_hex(6)}")


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    opened = open_store(tmp_path, database)
    yield opened
    opened.close()


@pytest.fixture
def arena(store: Store) -> Arena:
    return make_arena(store)
