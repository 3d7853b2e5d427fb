"""Simulated raters vote by their criterion, through every step, and say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import export
from app.simulate_votes import ForwardClock, Judged, brief, lively, main, right, simulate
from app.store import open_store, queries
from tests.app.arena import FakeSpeakers, make_arena


def test_hidden_criterion_shows_in_the_votes(tmp_path: Path) -> None:
    arena = make_arena(open_store(tmp_path), FakeSpeakers(seconds=0.5))
    arena.voting.staging.clock = arena.voting._now = clock = ForwardClock(1_700_000_000.0)

    def prefers_tuned(judged: Judged) -> float:
        return 5.0 if "tuned" in judged.text else 1.0

    assert simulate(arena.voting, clock, prefers_tuned, votes=12, raters=3, seed=1, prompts=["what is one"]) == 12
    votes = queries.votes(arena.voting.store)
    assert {vote.source for vote in votes} == {"simulated"}
    assert len({vote.rater for vote in votes}) == 3
    winners = [vote.left if vote.outcome == "left" else vote.right for vote in votes if vote.outcome != "tie"]
    assert winners.count("tuned") >= 10
    assert queries.votes(arena.voting.store, source="human") == []


def test_criteria() -> None:
    good = Judged("what is two plus two", "two plus two is four", {"f0_sd_semitones": 3.0, "seconds": 1.0})
    bad = Judged("what is two plus two", "two plus two is six", {"f0_sd_semitones": 1.0, "seconds": 2.0})
    for criterion in (right, lively, brief):
        assert criterion(good) > criterion(bad)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (["--votes", "0"], "'0' is not a whole number from 1 on"),
        (["--raters", "many"], "'many' is not a whole number"),
        (["--noise", "nan"], "'nan' is not a number from 0 on"),
        (["--left-bias", "-inf"], "'-inf' is not a number from -10 to 10"),
        (["--seed", "-1"], "'-1' is not a whole number from 0 on"),
    ],
)
def test_numbers_that_cannot_be_are_told_before_anything_begins(
    given: list[str], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAVALIGN_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit):
        main([f"{given[0]}={given[1]}"])
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_reliability_is_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export.main(["write", "folder", "--reliability", "3"])
    assert "'3' is not a number from 0 to 1" in capsys.readouterr().err
