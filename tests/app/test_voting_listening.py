"""Nobody votes on what they have not heard, whatever their client reports."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import select

from app.listening import PlaybackError
from app.store import queries
from app.store.schema import Flag
from tests.app.arena import Arena, refused, rows, typed


def test_vote_needs_delivery_and_listening(arena: Arena) -> None:
    rater = arena.join()
    battle = arena.voting.open(rater, typed()).battle
    refused("released", arena.voting.vote, battle, rater, 1)
    (delivered,) = arena.voting.deliver(battle, rater)
    assert "A and B" in refused("unheard", arena.voting.vote, battle, rater, 1)
    arena.clock.forward(delivered.seconds)
    heard = {"turn": 0, "side": "left", "start": 0.0, "end": delivered.seconds}
    progress = arena.voting.report_playback(battle, rater, [heard])
    assert progress.heard == {"left": 1.0, "right": 0.0}
    assert "B" in refused("unheard", arena.voting.vote, battle, rater, 1)
    assert rows(arena)["votes"] == 0


def test_client_that_lies_is_flagged_and_not_believed(arena: Arena) -> None:
    rater = arena.join()
    battle = arena.voting.open(rater, typed()).battle
    (delivered,) = arena.voting.deliver(battle, rater)
    claims = [{"turn": 0, "side": side, "start": 0.0, "end": delivered.seconds} for side in ("left", "right")]
    progress = arena.voting.report_playback(battle, rater, claims)
    assert not progress.may_vote
    refused("unheard", arena.voting.vote, battle, rater, 3)
    with arena.voting.store.reading() as session:
        assert [flag.kind for flag in session.scalars(select(Flag))] == ["playback"]
    arena.listen(battle)
    arena.voting.vote(battle, rater, 3)
    (vote,) = queries.votes(arena.voting.store, counted_only=False)
    assert vote.excluded == "flag: playback"
    assert queries.votes(arena.voting.store) == []
    arena.voting.flag("playback", "cleared", battle=battle)
    assert len(queries.votes(arena.voting.store)) == 1


NO_REPORTS = [
    None,
    "left",
    [None],
    [{}],
    [{"turn": 0, "side": "left", "start": math.nan, "end": 1}],
    [{"turn": 0, "side": "left", "start": -1, "end": 1}],
    [{"turn": 0, "side": "left", "start": 1, "end": 0}],
    [{"turn": 0, "side": "left", "start": 0, "end": 99}],
    [{"turn": 0, "side": "../left", "start": 0, "end": 1}],
    [{"turn": 0, "side": ["left"], "start": 0, "end": 1}],
    [{"turn": 7, "side": "left", "start": 0, "end": 1}],
    [{"turn": -1, "side": "left", "start": 0, "end": 1}],
    [{"turn": 0, "side": "left", "start": 0, "end": 0.1}, {"turn": 0, "side": "left", "start": "0", "end": 1}],
    [{"turn": 0, "side": "left", "start": 0, "end": 0.1}] * 65,
]


def test_report_that_is_none_changes_nothing(arena: Arena) -> None:
    arena.join()
    battle = arena.voting.open("b-1", typed()).battle
    arena.voting.deliver(battle, "b-1")
    before = rows(arena)
    for reports in NO_REPORTS:
        with pytest.raises(PlaybackError):
            arena.voting.report_playback(battle, "b-1", reports)
    assert rows(arena) == before


def test_turn_that_was_not_heard_closes_the_vote_again(arena: Arena) -> None:
    rater, voting = arena.join(), arena.voting
    battle = arena.heard()
    voting.ask(battle, rater, typed())
    voting.deliver(battle, rater)
    refused("unheard", voting.vote, battle, rater, 1)
