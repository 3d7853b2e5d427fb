"""A battle takes one vote, from its own rater; forged ids and choices that are none change nothing."""

from __future__ import annotations

import math
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.battles import BattleError
from tests.app.arena import Arena, refused, rows, spoken, typed


def test_whole_way_from_consent_to_the_reveal(arena: Arena) -> None:
    rater, voting = arena.join(), arena.voting
    battle = voting.open(rater, spoken()).battle
    (delivered,) = voting.deliver(battle, rater)
    assert {len(each) for each in delivered.audio.values()} == {len(delivered.audio["left"])}
    arena.listen(battle)
    receipt = voting.vote(battle, rater, -2, helpfulness=-1, reason="clearer\x00 \ud800")
    assert receipt.votes == 1
    arena.clock.forward(8.01)
    reveal = voting.reveal(battle, rater)
    assert {reveal.left.checkpoint, reveal.right.checkpoint} == {"base", "tuned"}
    assert (reveal.outcome, reveal.strength, reveal.counted) == ("right", -2, True)
    assert reveal.left.measures[0]["articulation_rate"] == 4.0
    (mine,) = voting.mine(rater)
    assert (mine.left, mine.status, mine.helpfulness) == (reveal.left.checkpoint, "counted", -1)
    assert mine.words == "what is two plus two"
    assert voting.current(rater) is None


def test_second_vote_changes_nothing(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted(2)
    before = rows(arena)
    assert arena.voting.vote(receipt.battle, "b-1", 2).receipt == receipt.receipt
    refused("voted", arena.voting.vote, receipt.battle, "b-1", -3)
    refused("voted", arena.voting.vote, receipt.battle, "b-1", 2, helpfulness=1)
    assert rows(arena) == before


def test_many_posts_at_once_are_one_vote(arena: Arena) -> None:
    arena.join()
    battle = arena.heard()
    said: list[object] = []

    def post(choice: int) -> None:
        try:
            said.append(arena.voting.vote(battle, "b-1", choice).receipt)
        except BattleError as error:
            said.append(error.code)

    threads = [threading.Thread(target=post, args=(choice,)) for choice in (3, 2, 1, -1, -2, -3) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipts = {each for each in said if each != "voted"}
    assert len(receipts) == 1
    assert rows(arena)["votes"] == 1


def test_nobody_votes_on_another_raters_battle(arena: Arena) -> None:
    arena.join()
    arena.join("b-2")
    battle = arena.heard("b-1")
    before = rows(arena)
    voting = arena.voting
    for step in (
        lambda: voting.vote(battle, "b-2", 1),
        lambda: voting.deliver(battle, "b-2"),
        lambda: voting.ask(battle, "b-2", typed()),
        lambda: voting.undo(battle, "b-2"),
        lambda: voting.reveal(battle, "b-2"),
        lambda: voting.detail(battle, "b-2", 1),
        lambda: voting.report_playback(battle, "b-2", []),
        lambda: voting.progress(battle, "b-2"),
    ):
        refused("unknown", step)
    receipt = voting.vote(battle, "b-1", 1).receipt
    refused("unknown", voting.retract, receipt, "b-2")
    assert rows(arena) == {**before, "votes": 1}


FORGED = ["", "0" * 32, "x" * 32, "../" * 11, "' OR 1=1 --", "\x00" * 32, "é" * 32, "0" * 10_000, None, 7, [], {}]


def test_forged_ids_change_nothing(arena: Arena) -> None:
    rater, voting = arena.join(), arena.voting
    arena.heard()
    before = rows(arena)
    for forged in FORGED:
        for step in (voting.deliver, voting.undo, voting.reveal, voting.progress, voting.retract):
            refused("unknown", step, forged, rater)
        refused("unknown", voting.vote, forged, rater, 1)
        refused("unknown", voting.ask, forged, rater, typed())
        refused("unknown", voting.report_playback, forged, rater, [])
    assert rows(arena) == before


def test_choice_that_is_none_changes_nothing(arena: Arena) -> None:
    arena.join()
    battle = arena.heard()
    before = rows(arena)
    for choice in (4, -4, 1.5, math.nan, math.inf, "2", "both bad", None, True, [1], {"a": 1}, b"1", 10**30):
        refused("ballot", arena.voting.vote, battle, "b-1", choice)
    for said in ({"helpfulness": 2}, {"naturalness": math.nan}, {"reason": 3}, {"reason": "x" * 501}):
        refused("ballot", arena.voting.vote, battle, "b-1", 1, **said)
    assert rows(arena) == before


def test_events_cannot_be_changed_or_deleted(arena: Arena) -> None:
    arena.join()
    arena.revealed()
    for statement in (
        "DELETE FROM votes",
        "UPDATE votes SET strength = 3",
        "UPDATE battles SET rater = 'b-2'",
        "UPDATE replies SET side = 'left'",
        "DELETE FROM consents",
    ):
        with pytest.raises(DBAPIError, match="append-only"), arena.voting.store.writing() as session:
            session.execute(text(statement))
