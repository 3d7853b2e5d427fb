"""What a rater can do and what nobody can: on both databases."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.battles import BattleError, Stage
from app.checks import CheckRules
from app.conversation import Asked
from app.equaliser import loudness
from app.listening import PlaybackError
from app.rates import Rates
from app.store import queries
from app.store.schema import TABLES, BattleRow, Flag, ReplyRow, VoteRow, storable
from tests.app.arena import Arena, make_arena, spoken, typed
from wavalign import audio
from wavalign.dialogue import Turn
from wavalign.models.protocol import GenerationError


def rows(arena: Arena) -> dict[str, int]:
    with arena.voting.store.reading() as session:
        return {t.__tablename__: len(session.execute(select(t)).all()) for t in TABLES}


def refused(code: str, step, *args, **kwargs) -> str:
    with pytest.raises(BattleError) as caught:
        step(*args, **kwargs)
    assert caught.value.code == code
    return str(caught.value)


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


def test_row_is_there_before_a_model_is_asked(arena: Arena) -> None:
    seen = []
    answer = arena.speakers.reply

    def reply(*args):
        seen.append(rows(arena))
        return answer(*args)

    arena.speakers.reply = reply
    arena.join()
    arena.voting.open("b-1", spoken())
    assert (seen[0]["battles"], seen[0]["turns"], seen[0]["replies"]) == (1, 1, 0)


def test_without_consent_nothing_begins(arena: Arena) -> None:
    refused("consent", arena.voting.open, "b-1", typed())
    refused("consent", arena.voting.consent, "b-1", "everything")
    assert set(rows(arena).values()) == {0}


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


def test_check_that_is_unavailable_excludes_nobody(arena: Arena) -> None:
    arena.join()
    arena.voted()
    arena.voting.flag("captcha", "unavailable", rater="b-1")
    assert len(queries.votes(arena.voting.store)) == 1
    arena.voting.flag("captcha", "raised", rater="b-1")
    assert queries.votes(arena.voting.store) == []


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


def test_battle_nobody_votes_on_expires(arena: Arena) -> None:
    arena.join()
    battle = arena.heard()
    arena.clock.forward(2 * 3600 + 1)
    refused("expired", arena.voting.vote, battle, "b-1", 1)
    assert arena.voting.progress(battle, "b-1").stage is Stage.EXPIRED
    assert arena.voting.current("b-1") is None


def test_both_sides_hear_the_same_turns_and_their_own_replies(arena: Arena) -> None:
    rater, voting = arena.join(), arena.voting
    battle = arena.heard(asked=spoken())
    opened = voting.ask(battle, rater, typed("and plus one"))
    assert (opened.turn, opened.turns_left) == (1, 4)
    refused("released", voting.ask, battle, rater, typed())
    arena.listen(battle)
    names, dialogues, settings = arena.speakers.asked[-1]
    for name, dialogue in zip(names, dialogues, strict=True):
        roles = [turn.role for turn in dialogue.turns]
        assert roles == ["user", "assistant", "user"]
        assert dialogue.turns[1].text == f"four says {name}"
        assert dialogue.turns[1].tokens[:2] == (1, 2)
    assert np.array_equal(dialogues[0].turns[0].speech.samples, dialogues[1].turns[0].speech.samples)
    assert settings[0]["seed"] == arena.speakers.asked[0][2][0]["seed"] + 1
    voting.vote(battle, rater, 1)
    refused("voted", voting.ask, battle, rater, typed())
    (vote,) = queries.votes(voting.store)
    assert vote.turns == 2


def test_turn_that_was_not_heard_closes_the_vote_again(arena: Arena) -> None:
    rater, voting = arena.join(), arena.voting
    battle = arena.heard()
    voting.ask(battle, rater, typed())
    voting.deliver(battle, rater)
    refused("unheard", voting.vote, battle, rater, 1)


def test_any_words_are_stored_whole_or_made_storable(arena: Arena) -> None:
    rater = arena.join()
    for words in ("../../etc/passwd", "\x00", "a\ud800b", "'; DROP TABLE votes; --", "🎧" * 1000, "<script>"):
        asked = Asked(Turn("user", text=words), typed=words)
        battle = arena.voting.open(rater, asked, category=words, language=words[:2]).battle
        assert arena.voting.deliver(battle, rater)[0].user.words == storable(words)


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


def test_rates_of_a_rater_and_of_an_address(store) -> None:
    arena = make_arena(store, rates=Rates(of_rater=2, of_address=3))
    for rater in ("b-1", "b-2"):
        arena.join(rater)
    for _ in range(2):
        arena.voting.open("b-1", typed(), address="hashed")
    refused("rate", arena.voting.open, "b-1", typed())
    arena.voting.open("b-2", typed(), address="hashed")
    refused("rate", arena.voting.open, "b-2", typed(), address="hashed")
    arena.clock.forward(3601)
    arena.voting.open("b-1", typed(), address="hashed")


def test_few_new_raters_begin_at_one_address_within_an_hour(store) -> None:
    arena = make_arena(store, rates=Rates(of_rater=9, of_address=99, new_of_address=2))
    for rater in ("b-1", "b-2", "b-3"):
        arena.join(rater)
    for rater in ("b-1", "b-2", "b-1"):
        arena.voting.open(rater, typed(), address="hashed")
    refused("rate", arena.voting.open, "b-3", typed(), address="hashed")
    arena.voting.open("b-2", typed(), address="hashed")  # who has begun goes on
    arena.voting.open("b-3", typed(), address="another")
    arena.clock.forward(3601)
    for rater in ("b-4", "b-5"):
        arena.voting.open(arena.join(rater), typed(), address="hashed")
    arena.voting.open("b-1", typed(), address="hashed")  # no longer new
    refused("rate", arena.voting.open, arena.join("b-6"), typed(), address="hashed")


def test_same_prompt_twice_gives_other_bytes_of_the_same_sound(arena: Arena) -> None:
    arena.join()
    seen = set()
    for _ in range(3):
        battle = arena.voting.open("b-1", typed()).battle
        (first,) = arena.voting.deliver(battle, "b-1")
        assert arena.voting.deliver(battle, "b-1") == (first,)  # a reload gets what was heard
        seen |= set(first.audio.values())
    assert len(seen) == 6
    assert len({len(each) for each in seen}) == 3


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


def test_retracted_vote_stays_in_the_log_and_counts_no_more(arena: Arena) -> None:
    arena.join()
    receipt = arena.revealed()
    assert arena.voting.retract(receipt.receipt, "b-1").status == "retracted"
    refused("retracted", arena.voting.retract, receipt.receipt, "b-1")
    assert rows(arena)["votes"] == 1
    (vote,) = queries.votes(arena.voting.store, counted_only=False)
    assert vote.excluded == "retracted"


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
