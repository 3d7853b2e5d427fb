"""Raters undo, add to and take back their votes, within bounds and without knowing the names."""

from __future__ import annotations

import pytest

from app.battles import BattleError
from app.store import queries
from tests.app.arena import Arena, refused, rows


def test_undo_within_eight_seconds_and_vote_again(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted(3)
    arena.clock.forward(7.9)
    assert arena.voting.progress(receipt.battle, "b-1").undo_seconds == pytest.approx(0.1, abs=1e-3)
    assert arena.voting.undo(receipt.battle, "b-1").may_vote
    assert queries.votes(arena.voting.store) == []
    again = arena.voting.vote(receipt.battle, "b-1", "both_bad")
    assert again.receipt != receipt.receipt
    arena.clock.forward(8.1)
    refused("too_late", arena.voting.undo, receipt.battle, "b-1")
    (vote,) = queries.votes(arena.voting.store)
    assert (vote.outcome, vote.strength, vote.vote) == ("both_bad", 0, again.receipt)


def test_nobody_fills_the_log_by_changing_their_mind(arena: Arena) -> None:
    arena.join()
    battle = arena.heard()
    for choice in range(arena.voting.rules.ballots - 1):
        arena.voting.vote(battle, "b-1", choice % 3)
        arena.voting.undo(battle, "b-1")
    arena.voting.vote(battle, "b-1", 3)
    with pytest.raises(BattleError, match="this vote stands"):
        arena.voting.undo(battle, "b-1")
    assert [vote.strength for vote in queries.votes(arena.voting.store)] == [3]
    for _ in range(14):
        for level in ("nothing", "research"):
            arena.clock.forward(1)
            arena.voting.consent("b-1", level)
    arena.clock.forward(1)
    arena.voting.consent("b-1", "nothing")  # allowing less is always heard
    with pytest.raises(BattleError, match="often enough for one hour"):
        arena.voting.consent("b-1", "research")
    assert arena.voting.consent_of("b-1") == "nothing"


def test_names_stay_hidden_while_the_vote_can_be_undone(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted()
    refused("too_early", arena.voting.reveal, receipt.battle, "b-1")
    (mine,) = arena.voting.mine("b-1")
    assert (mine.left, mine.right, mine.status) == ("", "", "pending")
    refused("not_voted", arena.voting.reveal, arena.heard(), "b-1")


def test_taps_after_the_vote_until_the_reveal(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted(1)
    arena.voting.detail(receipt.battle, "b-1", naturalness=-1)
    arena.voting.detail(receipt.battle, "b-1", helpfulness=1, reason="the right answer")
    (vote,) = queries.votes(arena.voting.store)
    assert (vote.helpfulness, vote.naturalness, vote.reason) == (1, -1, "the right answer")
    arena.clock.forward(9)
    arena.voting.reveal(receipt.battle, "b-1")
    refused("voted", arena.voting.detail, receipt.battle, "b-1", 0)


def test_nothing_more_is_said_once_names_were_seen_among_my_votes(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted(1)
    (mine,) = arena.voting.mine("b-1", reveal=True)
    assert (mine.left, mine.status) == ("", "pending")
    arena.voting.detail(receipt.battle, "b-1", naturalness=-1)
    arena.clock.forward(9)
    (mine,) = arena.voting.mine("b-1")
    assert (mine.left, mine.right, mine.status) == ("", "", "counted")
    (mine,) = arena.voting.mine("b-1", reveal=True)
    assert {mine.left, mine.right} == {"base", "tuned"}
    refused("voted", arena.voting.detail, receipt.battle, "b-1", 1)
    assert arena.voting.reveal(receipt.battle, "b-1").left.checkpoint == mine.left
    (vote,) = queries.votes(arena.voting.store)
    assert (vote.helpfulness, vote.naturalness) == (None, -1)


def test_what_was_taken_back_is_neither_undone_nor_sent_again(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted(1)
    arena.voting.retract(receipt.receipt, "b-1")
    refused("retracted", arena.voting.undo, receipt.battle, "b-1")
    refused("voted", arena.voting.vote, receipt.battle, "b-1", 1)
    assert queries.votes(arena.voting.store) == []


def test_retracted_vote_stays_in_the_log_and_counts_no_more(arena: Arena) -> None:
    arena.join()
    receipt = arena.revealed()
    assert arena.voting.retract(receipt.receipt, "b-1").status == "retracted"
    refused("retracted", arena.voting.retract, receipt.receipt, "b-1")
    assert rows(arena)["votes"] == 1
    (vote,) = queries.votes(arena.voting.store, counted_only=False)
    assert vote.excluded == "retracted"
