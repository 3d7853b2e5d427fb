"""Pushing to the Hub, against an in-process one at the HTTP edge."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from app.export_hub import Hub, MissingError, Pusher, PushError
from app.export_rows import VIEWS
from app.pushing import Pushing
from app.settings import Settings, SettingsError
from app.store import open_store, queries
from tests.app.arena import Arena, make_arena, spoken
from tests.app.fake_hub import FakeHub, fake_hub


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with fake_hub() as hub:
        yield hub


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    made = make_arena(open_store(tmp_path / "home"))
    made.join("b-1")
    made.revealed(asked=spoken())
    return made


def hub_of(arena: Arena, remote: FakeHub, notes: Path, level: str = "publish") -> Hub:
    return Hub(arena.voting.store, "someone/votes", notes, level, HfApi(endpoint=remote.url, token="hf_test"))


def shards(remote: FakeHub) -> set[str]:
    return {name for name in remote.files if name.startswith("log/")}


def test_only_what_is_new_goes_up_and_nothing_is_changed(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    hub = hub_of(arena, remote, tmp_path / "notes")
    first = hub.push()
    assert len(first.shards) == 1
    before = {name: remote.files[name] for name in shards(remote)}
    assert hub.push().entries == 0
    assert len(remote.commits) == 1
    arena.join("s-1", source="simulated")
    arena.revealed(rater="s-1")
    assert hub.push().entries == 0
    arena.revealed()
    assert 0 < hub.push().entries < first.entries + 10
    assert len(shards(remote)) == 2
    assert before.items() <= remote.files.items()
    for view in VIEWS:
        assert len([name for name in remote.files if name.startswith(f"{view}/")]) == 1
    assert "config_name: preference" in remote.files["README.md"].decode()


def test_push_that_was_cut_off_is_done_again_without_doubles(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    hub = hub_of(arena, remote, tmp_path / "notes")
    remote.lose_the_answer = True
    with pytest.raises(PushError, match="did not take"):
        hub.push()
    assert len(shards(remote)) == 1
    assert hub.push().entries == 0
    fresh_notes = hub_of(arena, remote, tmp_path / "other notes")
    assert fresh_notes.push().entries == 0


def test_erased_rater_is_withdrawn_from_the_hub(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    arena.join("b-2")
    arena.revealed(rater="b-2", asked=spoken(321.0))
    hub = hub_of(arena, remote, tmp_path / "notes")
    hub.push()
    (old,) = shards(remote)
    arena.voting.erase("b-2")
    pushed = hub.push()
    assert pushed.withdrawn == (old,)
    assert old not in remote.files
    assert remote.squashed == 1
    assert hub.push().entries == 0
    again = open_store(tmp_path / "again")
    Hub(again, "someone/votes", tmp_path / "n", "publish", hub.api).rebuild()
    assert {vote.rater: vote.excluded for vote in queries.votes(again, counted_only=False)} == {
        "b-1": None,
        "b-2": "erased",
    }
    assert len(set(again.audio.names())) == 5


def test_consent_that_is_lowered_takes_back(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    hub = hub_of(arena, remote, tmp_path / "notes")
    hub.push()
    arena.clock.forward(1)
    arena.voting.consent("b-1", "research")
    assert len(hub.push().withdrawn) == 1
    assert shards(remote) == set()


def test_everything_goes_to_private_repositories_only(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    hub = hub_of(arena, remote, tmp_path / "notes", "everything")
    remote.exists = True
    with pytest.raises(PushError, match="is public"):
        hub.push()
    remote.exists = False
    hub.push()
    assert remote.private
    only_mine = arena.revealed(rater=arena.join("b-9", "nothing")).battle
    hub.push()
    assert all(only_mine not in str(_rows(data)) for data in remote.files.values()), "only for its rater"
    arena.voting.erase("b-9")
    assert "README.md" not in remote.files
    again = open_store(tmp_path / "again")
    Hub(again, "someone/votes", tmp_path / "n", "everything", hub.api).rebuild()
    assert queries.votes(again) == queries.votes(arena.voting.store)


def test_last_push_is_flushed_at_the_end_and_failures_are_told(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    told: list[str] = []
    pusher = Pusher(hub_of(arena, remote, tmp_path / "notes"), minutes=60, told=told.append).start()
    pusher.stop()
    pusher.stop()
    assert len(remote.commits) == 1
    arena.revealed()
    remote.refuse_commits = True
    Pusher(hub_of(arena, remote, tmp_path / "notes"), minutes=60, told=told.append).start().stop()
    assert "did not take" in told[-1] or "cannot be reached" in told[-1]


def test_a_battle_that_can_still_be_voted_on_is_not_published(arena: Arena, remote: FakeHub, tmp_path: Path) -> None:
    hub = replace(hub_of(arena, remote, tmp_path / "notes"), clock=arena.clock)
    hub.push()

    def told(battle: str) -> bool:
        return any(battle.encode() in data or battle in str(_rows(data)) for data in remote.files.values())

    waiting = arena.heard()
    assert hub.push().entries == 0
    receipt = arena.voting.vote(waiting, "b-1", 1).receipt
    hub.push()
    assert not told(waiting)
    arena.clock.forward(9)
    arena.voting.reveal(waiting, "b-1")
    assert hub.push().entries > 0
    assert told(waiting)
    assert told(receipt)
    left_alone = arena.heard()
    arena.clock.forward(arena.voting.rules.expiry + 60)
    hub.push()
    assert told(left_alone)


def _rows(data: bytes) -> object:
    return pq.read_table(io.BytesIO(data)).to_pylist() if data.startswith(b"PAR1") else None


def test_the_app_pushes_what_its_environment_names_and_flushes_at_its_end(
    arena: Arena, remote: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment(
        {"WAVALIGN_HOME": str(tmp_path / "home"), "WAVALIGN_PUSH_VOTES": "someone/votes"}
    )
    monkeypatch.setattr("app.pushing.Hub", lambda *what: Hub(*what, api=HfApi(endpoint=remote.url, token="hf_test")))
    pushing = Pushing(SimpleNamespace(settings=settings, voting=arena.voting))
    pushing.start()
    pushing.stop()
    assert len(shards(remote)) == 1
    nothing = Pushing(SimpleNamespace(settings=Settings(tmp_path, tmp_path)))
    nothing.start()
    nothing.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [("WAVALIGN_PUSH_VOTES", "votes"), ("WAVALIGN_PUSH_BACKUP", "../a/b"), ("WAVALIGN_PUSH_MINUTES", "nan")],
)
def test_an_environment_that_cannot_be_used_is_one_sentence(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({name: value})


def test_a_fault_of_ours_does_not_end_the_pushing(tmp_path: Path) -> None:
    told: list[str] = []
    broken = SimpleNamespace(repo="someone/votes", push=lambda: 1 / 0)
    Pusher(broken, minutes=60, told=told.append).start().stop()
    assert told == ["The push to someone/votes failed (ZeroDivisionError); it is tried again."]


def test_hub_that_is_away_is_told_in_one_sentence(
    arena: Arena, remote: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between tries
    hub = Hub(arena.voting.store, "someone/votes", tmp_path, "publish", HfApi("http://127.0.0.1:9", token="hf_test"))
    with pytest.raises(PushError, match="cannot be reached"):
        hub.push()
    with pytest.raises(PushError, match="cannot be reached"):
        hub.rebuild()


def test_rebuild_from_a_repository_that_is_not_there_is_one_sentence(
    arena: Arena, remote: FakeHub, tmp_path: Path
) -> None:
    with pytest.raises(MissingError, match="There is no dataset someone/votes"):
        hub_of(arena, remote, tmp_path).rebuild()
