"""A machine that forgets: its votes come back from the Hub before anything is pushed. Against an in-process hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from app.export_hub import Hub
from app.pushing import BEGUN, Pushing
from app.settings import Settings
from app.store import Store, open_store, queries
from tests.app.arena import Arena, make_arena, spoken
from tests.app.fake_hub import FakeHub, fake_hub


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with fake_hub() as hub:
        api = HfApi(endpoint=hub.url, token="hf_test")
        monkeypatch.setattr("app.pushing.Hub", lambda *what: Hub(*what, api=api))
        yield hub


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., tuple[Arena, Pushing, list[str]]]]:
    """A fresh disk each time, with the same two datasets named."""
    stores: list[Store] = []

    def start(name: str, **repositories: str) -> tuple[Arena, Pushing, list[str]]:
        home = tmp_path / name
        arena = make_arena(open_store(home))
        stores.append(arena.voting.store)
        told: list[str] = []
        settings = Settings(home, tmp_path, **(repositories or {"push_backup": "someone/votes"}))
        return arena, Pushing(SimpleNamespace(settings=settings, voting=arena.voting), told.append), told

    yield start
    for store in stores:
        store.close()


def test_votes_come_back_after_a_restart_without_a_disk(remote: FakeHub, machine):
    arena, pushing, _ = machine("before")
    pushing.start()
    arena.join("b-1")
    arena.revealed(asked=spoken())
    pushing.stop()
    files = dict(remote.files)
    again, pushing, told = machine("after")
    pushing.start()
    assert queries.votes(again.voting.store) == queries.votes(arena.voting.store)
    assert len(told) == 1
    assert told[0].startswith("The database was empty:")
    pushing.stop()
    assert remote.files == files  # nothing was taken back, nothing sent twice


def test_where_nothing_was_pushed_yet_there_is_nothing_to_say(remote: FakeHub, machine):
    _, pushing, told = machine("first")
    pushing.start()
    pushing.stop()
    assert told == []


def test_a_hub_that_is_away_at_the_start_loses_nothing(remote: FakeHub, machine):
    arena, pushing, _ = machine("before")
    arena.join("b-1")
    arena.revealed()
    pushing.start()
    pushing.stop()
    files, remote.files = remote.files, {}
    url, exists = remote.url, remote.exists
    remote.files = files | {"log/log-broken.parquet": b"half of a sh"}
    again, pushing, told = machine("after")
    pushing.start()
    assert told[0].startswith("The votes in someone/votes cannot be read back")
    again.join("b-2")
    again.revealed(rater="b-2")
    for pusher in pushing._pushers:
        pusher._once()
    assert set(files) <= set(remote.files)  # not one shard was withdrawn
    del remote.files["log/log-broken.parquet"]
    pushing.stop()  # now it can: what was there comes back, then what is new goes up
    assert (url, exists) == (remote.url, remote.exists)
    assert set(files) < set(remote.files)
    third, pushing, _ = machine("third")
    pushing.start()
    assert len(queries.votes(third.voting.store)) == 2
    pushing.stop()


def test_a_database_that_has_people_is_not_filled(remote: FakeHub, machine):
    arena, pushing, _ = machine("before")
    arena.join("b-1")
    arena.revealed()
    pushing.start()
    pushing.stop()
    other, pushing, told = machine("other")
    other.join("b-9")
    pushing.start()
    assert queries.votes(other.voting.store) == []
    assert told == []


def test_a_refill_that_was_cut_off_is_done_again(remote: FakeHub, machine, tmp_path: Path):
    arena, pushing, _ = machine("before")
    arena.join("b-1")
    arena.revealed()
    pushing.start()
    pushing.stop()
    again, pushing, _ = machine("again")
    again.join("b-9")
    (tmp_path / "again" / "arena" / BEGUN).touch()
    pushing.start()
    assert len(queries.votes(again.voting.store)) == 1
    assert not (tmp_path / "again" / "arena" / BEGUN).exists()
    pushing.stop()
