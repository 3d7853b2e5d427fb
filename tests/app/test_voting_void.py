"""A battle that fails, changes, is stopped or waits too long is void or expired, and no checkpoint loses."""

from __future__ import annotations

import threading

import pytest

from app.battles import BattleError, Stage
from tests.app.arena import Arena, refused, rows, typed
from wavalign.models.protocol import GenerationError


def test_battle_nobody_votes_on_expires(arena: Arena) -> None:
    arena.join()
    battle = arena.heard()
    arena.clock.forward(2 * 3600 + 1)
    refused("expired", arena.voting.vote, battle, "b-1", 1)
    assert arena.voting.progress(battle, "b-1").stage is Stage.EXPIRED
    assert arena.voting.current("b-1") is None


@pytest.mark.parametrize("problem", [GenerationError('"tuned" cannot answer that'), "silent", MemoryError("no room")])
def test_side_that_fails_voids_the_battle_and_nobody_loses(arena: Arena, problem: Exception | str) -> None:
    arena.join()
    arena.speakers.broken["tuned"] = problem
    with pytest.raises((BattleError, MemoryError)) as caught:
        arena.voting.open("b-1", typed())
    if isinstance(caught.value, BattleError):
        assert caught.value.code == "void"
        assert "tuned" not in str(caught.value)
    failures = arena.voting.failures()
    assert len(failures) == (1 if isinstance(problem, MemoryError) else 2)  # asked once more, unseen
    if problem == "silent":
        assert {each.checkpoint for each in failures} == {"tuned"}
    assert rows(arena)["votes"] == 0
    assert arena.voting.staging.tallies("human") == {}
    assert arena.voting.current("b-1") is None


def test_checkpoint_that_changes_voids_the_dialogue(arena: Arena) -> None:
    arena.join()
    battle = arena.heard()
    arena.speakers.revisions["tuned"] = "tuned-2"
    refused("void", arena.voting.ask, battle, "b-1", typed())
    refused("void", arena.voting.vote, battle, "b-1", 1)


def test_stopped_while_the_replies_are_made(arena: Arena) -> None:
    arena.join()
    stop = threading.Event()
    stop.set()
    refused("void", arena.voting.open, "b-1", typed(), stop=stop)
    assert rows(arena)["battles"] == 1


def test_interrupted_battle_is_void_and_shown_to_the_host(arena: Arena) -> None:
    arena.join()
    arena.speakers.broken["base"] = KeyboardInterrupt()
    arena.speakers._one = None  # the process is gone before anything can be noted
    void = arena.voting.staging._void
    arena.voting.staging._void = lambda *args: None
    with pytest.raises(TypeError):
        arena.voting.open("b-1", typed())
    arena.voting.staging._void = void
    arena.clock.forward(1000)
    arena.voting.sweep()
    (failure,) = arena.voting.failures()
    assert "Interrupted" in failure.reason
