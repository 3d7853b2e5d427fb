"""Simulated raters vote by their criterion, through every step, and say what they are."""

from __future__ import annotations

from pathlib import Path

from app.simulate_votes import ForwardClock, Judged, brief, lively, right, simulate
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
