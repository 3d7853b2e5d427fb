"""What a battle costs is measured on battles as the arena stages them, the first left out."""

from __future__ import annotations

from pathlib import Path

from app.bench_battles import run
from app.store import open_store
from tests.app.arena import FakeSpeakers, make_arena


def test_every_battle_is_staged_and_the_first_is_not_counted(tmp_path: Path) -> None:
    arena = make_arena(open_store(tmp_path), FakeSpeakers(seconds=0.5))
    result = run(arena.voting, battles=2)
    assert len(arena.speakers.asked) == 3
    assert result["battles"] == 2
    assert 0 < result["p50_s"] <= result["max_s"]
    assert result["cpu_s"] > 0
