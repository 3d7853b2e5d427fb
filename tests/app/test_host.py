"""What the host is shown, and may decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app import host
from app.store import open_store, queries
from tests.app.arena import Arena, make_arena, typed
from wavalign.models.protocol import CheckpointError


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    monkeypatch.setenv("WAVALIGN_HOME", str(tmp_path))
    made = make_arena(open_store(tmp_path))
    made.join()
    yield made
    made.voting.store.close()


def test_a_failure_is_shown_with_its_cause(arena: Arena, capsys: pytest.CaptureFixture) -> None:
    arena.speakers.broken["tuned"] = CheckpointError("tuned has lost its weights")
    with pytest.raises(ValueError, match="failed"):
        arena.voting.open("b-1", typed())
    assert "is void: tuned has lost its weights" in capsys.readouterr().err
    assert host.main([]) == 0
    said = capsys.readouterr().out
    assert "Failures: 2" in said, "it was tried once more"
    assert "tuned has lost its weights" in said


def test_a_flag_is_shown_cleared_and_raised(arena: Arena, capsys: pytest.CaptureFixture) -> None:
    store, battle = arena.voting.store, arena.heard()
    arena.clock.forward(0.1)
    arena.voting.report_playback(battle, "b-1", [{"turn": 0, "side": "left", "start": 0.0, "end": 1.0}] * 9)
    arena.voting.vote(battle, "b-1", 1)
    assert queries.votes(store) == []
    assert host.main([]) == 0
    assert f"playback raised  --battle {battle}" in capsys.readouterr().out
    assert host.main(["clear", "playback", "--battle", battle]) == 0
    assert len(queries.votes(store)) == 1
    assert host.main(["raise", "farm", "--rater", "b-1"]) == 0
    assert queries.votes(store) == []


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["clear", "playback", "--battle", "../x"], "There is no battle ../x."),
        (["raise", "farm", "--rater", "nobody"], "There is no rater nobody."),
        (["clear", "farm", "--rater", "b-1"], "There is no flag farm raised about b-1."),
    ],
)
def test_what_is_not_there_is_one_sentence(
    arena: Arena, capsys: pytest.CaptureFixture, command: list[str], sentence: str
) -> None:
    assert host.main(command) == 1
    assert capsys.readouterr().err.strip() == sentence
