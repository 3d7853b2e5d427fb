"""A battle is stored before a model is asked, gives both sides the same turns and opens within the rates."""

from __future__ import annotations

import numpy as np

from app.conversation import Asked
from app.rates import Rates
from app.store import queries
from app.store.schema import storable
from tests.app.arena import Arena, make_arena, refused, rows, spoken, typed
from wavalign.dialogue import Turn


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


def test_any_words_are_stored_whole_or_made_storable(arena: Arena) -> None:
    rater = arena.join()
    for words in ("../../etc/passwd", "\x00", "a\ud800b", "'; DROP TABLE votes; --", "🎧" * 1000, "<script>"):
        asked = Asked(Turn("user", text=words), typed=words)
        battle = arena.voting.open(rater, asked, category=words, language=words[:2]).battle
        assert arena.voting.deliver(battle, rater)[0].user.words == storable(words)


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
