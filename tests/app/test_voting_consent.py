"""What a rater allows decides what begins, what is kept and what counts; what is erased is gone."""

from __future__ import annotations

from sqlalchemy import select

from app.store import queries
from app.store.schema import BattleRow, ReplyRow, VoteRow
from tests.app.arena import Arena, refused, rows, spoken, typed


def test_without_consent_nothing_begins(arena: Arena) -> None:
    refused("consent", arena.voting.open, "b-1", typed())
    refused("consent", arena.voting.consent, "b-1", "everything")
    assert set(rows(arena).values()) == {0}


def test_what_was_erased_is_neither_sent_again_nor_counted_for_its_rater(arena: Arena) -> None:
    arena.join()
    receipt = arena.voted(1)
    assert arena.voting.consent_of("b-1") == "publish"
    arena.clock.forward(9)
    arena.voting.erase("b-1")
    refused("erased", arena.voting.vote, receipt.battle, "b-1", 1)
    assert arena.voting.consent_of("b-1") is None
    arena.clock.forward(1)
    arena.join()
    assert arena.voted(2).votes == 1


def test_erasing_removes_every_recording_and_word(arena: Arena) -> None:
    arena.join()
    arena.join("b-2")
    shared = spoken(333.0)
    arena.revealed(asked=shared, reason="said by one")
    arena.revealed(rater="b-2", asked=shared, reason="said by two")
    store = arena.voting.store
    files = set(store.audio.names())
    erased = arena.voting.erase("b-1")
    assert erased.battles == 1
    left = set(store.audio.names())
    with store.reading() as session:
        named = {each.audio for each in session.scalars(select(ReplyRow))} | {
            each.presented for each in session.scalars(select(ReplyRow))
        }
        kept = list(session.scalars(select(VoteRow).order_by(VoteRow.at)))
        addresses = session.scalars(select(BattleRow.address)).all()
    assert {each for each in named if each} < left < files
    assert len(left) == 5  # what b-2 said, which b-1 said too, and both of b-2's replies twice
    assert [each.reason for each in kept] == [None, "said by two"]
    assert set(addresses) == {None}
    assert [vote.rater for vote in queries.votes(store)] == ["b-2"]
    assert arena.voting.mine("b-1")[0].status == "erased"
    assert arena.voting.erase("b-1").recordings == 0
    assert arena.voting.erase("b-nobody").battles == 0
    for step in (arena.voting.reveal, arena.voting.deliver):
        refused("erased", step, kept[0].battle, "b-1")


def test_what_may_not_be_used_is_erased_and_never_counted(arena: Arena) -> None:
    arena.join(level="nothing")
    receipt = arena.revealed(asked=spoken())
    assert queries.votes(arena.voting.store) == []
    assert queries.votes(arena.voting.store, counted_only=False)[0].excluded == "consent"
    arena.voting.sweep()
    assert len(list(arena.voting.store.audio.names())) == 5
    arena.clock.forward(1000)
    arena.voting.sweep()
    assert list(arena.voting.store.audio.names()) == []
    assert arena.voting.mine("b-1")[0].status.startswith("not counted")
    assert receipt.votes == 1


def test_allowing_less_later_reaches_back_and_allowing_more_does_not(arena: Arena) -> None:
    arena.join(level="research")
    arena.revealed()
    arena.clock.forward(10)
    arena.voting.consent("b-1", "publish")
    assert [vote.consent for vote in queries.votes(arena.voting.store)] == ["research"]
    arena.clock.forward(10)
    arena.voting.consent("b-1", "nothing")
    assert queries.votes(arena.voting.store) == []
