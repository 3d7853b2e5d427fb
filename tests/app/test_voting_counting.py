"""Which votes count: flags, gold battles, repeats and simulated raters are told apart in what is read."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import select

from app.checks import CheckRules
from app.equaliser import loudness
from app.store import queries
from app.store.schema import ReplyRow
from tests.app.arena import Arena, make_arena, refused, spoken, typed
from wavalign import audio


def test_check_that_is_unavailable_excludes_nobody(arena: Arena) -> None:
    arena.join()
    arena.voted()
    arena.voting.flag("captcha", "unavailable", rater="b-1")
    assert len(queries.votes(arena.voting.store)) == 1
    arena.voting.flag("captcha", "raised", rater="b-1")
    assert queries.votes(arena.voting.store) == []


def test_gold_battle_spoils_one_side_and_does_not_count(store) -> None:
    arena = make_arena(store, checks=CheckRules(gold_share=1.0, repeat_share=0.0, after_votes=1))
    arena.join()
    arena.revealed()
    receipt = arena.voted(1)
    (gold,) = [vote for vote in queries.votes(store, counted_only=False) if vote.kind == "gold"]
    assert (gold.vote, gold.excluded) == (receipt.receipt, "gold")
    with store.reading() as session:
        replies = {each.side: each for each in session.scalars(select(ReplyRow).where(ReplyRow.battle == gold.battle))}
    spoilt = audio.read(store.audio.get(replies[gold.gold_side].presented)).samples
    whole = audio.read(store.audio.get(replies["left" if gold.gold_side == "right" else "right"].presented)).samples

    def flatness(samples):
        power = np.abs(np.fft.rfft(samples)) ** 2 + 1e-9
        return np.exp(np.mean(np.log(power))) / np.mean(power)

    assert flatness(spoilt) > 5 * flatness(whole)
    assert abs(loudness(spoilt, 16_000) - loudness(whole, 16_000)) < 1.5
    arena.clock.forward(9)
    assert arena.voting.reveal(gold.battle, "b-1").excluded == "gold"


def test_repeat_swaps_the_sides_of_an_earlier_battle(store) -> None:
    arena = make_arena(store, checks=CheckRules(gold_share=0.0, repeat_share=1.0, repeat_gap=2))
    arena.join()
    first = arena.revealed(2, asked=spoken())
    assert arena.voting.repeat("b-1") is None  # too soon
    arena.revealed(1)
    arena.revealed(1)
    opened = arena.voting.repeat("b-1")
    assert opened.repeat
    arena.listen(opened.battle)
    arena.voting.vote(opened.battle, "b-1", -2)
    votes = {vote.battle: vote for vote in queries.votes(store, counted_only=False)}
    again, earlier = votes[opened.battle], votes[first.battle]
    assert (again.left, again.right) == (earlier.right, earlier.left)
    assert (again.repeat_of, again.excluded) == (first.battle, "repeat")
    asked = arena.voting.deliver(opened.battle, "b-1")[0]
    assert asked.user.audio == arena.voting.deliver(first.battle, "b-1")[0].user.audio
    refused("turns", arena.voting.ask, opened.battle, "b-1", typed())


def test_simulated_raters_are_marked_and_never_steer_human_pairs(arena: Arena) -> None:
    arena.join("b-sim", source="simulated")
    arena.voted(3, "b-sim")
    assert [vote.source for vote in queries.votes(arena.voting.store)] == ["simulated"]
    assert queries.votes(arena.voting.store, source="human") == []
    assert arena.voting.staging.tallies("human") == {}
    assert set(arena.voting.counts().values()) == {0}


def test_votes_as_a_table(arena: Arena) -> None:
    arena.join()
    assert list(queries.votes_frame(arena.voting.store)["battle"]) == []
    version = queries.version(arena.voting.store)
    arena.voted(1)
    frame = queries.votes_frame(arena.voting.store)
    assert queries.version(arena.voting.store) != version
    assert frame.loc[0, "cov_log_duration_ratio"] == pytest.approx(0.0)
    assert abs(frame.loc[0, "cov_loudness_residual"]) < 0.1
    assert frame.loc[0, "outcome"] == "left"
    assert frame.loc[0, "propensity"] == 1.0
    assert len(queries.recordings(arena.voting.store, frame.loc[0, "battle"])) == 2
