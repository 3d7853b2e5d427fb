"""The steps of a blind battle, without page and database."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.battles import SIDES, Ballot, Battle, BattleError, Rules, Stage
from app.listening import Played

RULES = Rules()


def delivered(now: float = 0.0, seconds: float = 4.0) -> Battle:
    battle = Battle("b", "r", now).asked(now, RULES)
    for side in SIDES:
        battle = battle.stored(side, seconds, now, RULES)
    return battle.released(now, RULES).delivered(now, RULES)


def heard(now: float = 0.0, seconds: float = 4.0) -> Battle:
    battle = delivered(now, seconds)
    battle = battle.played(0, Played("left", 0.0, seconds, now + seconds), now + seconds, RULES)
    return battle.played(0, Played("right", 0.0, seconds, now + 2 * seconds), now + 2 * seconds, RULES)


def code(step, *args) -> str:
    with pytest.raises(BattleError) as caught:
        step(*args)
    return caught.value.code


def test_stages_in_order() -> None:
    battle = Battle("b", "r", 0.0)
    seen = [battle.stage(0, RULES)]
    battle = battle.asked(0, RULES)
    seen.append(battle.stage(0, RULES))
    battle = battle.stored("right", 4.0, 1, RULES)
    seen.append(battle.stage(1, RULES))
    battle = battle.stored("left", 4.0, 1, RULES).released(1, RULES)
    seen.append(battle.stage(1, RULES))
    seen.append(battle.delivered(2, RULES).stage(2, RULES))
    battle = heard().voted(Ballot(1), 9, RULES)
    seen.append(battle.stage(9, RULES))
    battle = battle.revealed(17, RULES)
    seen.append(battle.stage(17, RULES))
    assert [each.value for each in seen] == [
        "created",
        "asked",
        "stored",
        "released",
        "delivered",
        "voted",
        "revealed",
    ]


def test_neither_side_is_released_before_the_other() -> None:
    battle = Battle("b", "r", 0.0).asked(0, RULES).stored("left", 4.0, 0, RULES)
    assert code(battle.released, 0, RULES) == "one_side"
    assert code(battle.stored, "left", 4.0, 0, RULES) == "stored"
    assert code(battle.stored, "right", math.nan, 0, RULES) == "stored"
    assert code(battle.stored, "right", 0.0, 0, RULES) == "stored"


def test_vote_waits_for_the_replies_to_be_heard() -> None:
    assert code(delivered().voted, Ballot(1), 100, RULES) == "unheard"
    assert heard().voted(Ballot(1), 8, RULES).standing.ballot.outcome == "left"


def test_undo_opens_the_vote_again_until_eight_seconds_passed() -> None:
    battle = heard().voted(Ballot(1), 10, RULES)
    assert code(battle.undone, 18.001, RULES) == "too_late"
    assert code(battle.revealed, 17.9, RULES) == "too_early"
    undone = battle.undone(18, RULES)
    assert undone.stage(18, RULES) is Stage.DELIVERED
    assert undone.standing is None
    again = undone.voted(Ballot(-3), 19, RULES)
    assert (again.standing.number, again.standing.ballot.outcome) == (2, "right")


def test_void_and_expired_battles_take_no_vote() -> None:
    assert code(heard().voided("no sound").voted, Ballot(1), 9, RULES) == "void"
    assert code(heard().voted, Ballot(1), RULES.expiry + 1, RULES) == "expired"
    voted = heard().voted(Ballot(1), 9, RULES)
    assert code(voted.voided, "too late") == "void"
    assert voted.stage(10 * RULES.expiry, RULES) is Stage.VOTED  # what was voted does not expire


@pytest.mark.parametrize(
    ("choice", "outcome"),
    [(3, "left"), (1.0, "left"), (0, "tie"), (-1, "right"), (-3, "right"), ("both_bad", "both_bad")],
)
def test_seven_points_and_both_bad(choice: object, outcome: str) -> None:
    assert Ballot.of(choice).outcome == outcome


@given(
    choice=st.one_of(
        st.none(), st.booleans(), st.floats(), st.text(), st.integers(), st.lists(st.integers()), st.binary()
    )
)
def test_ballot_is_valid_or_refused(choice: object) -> None:
    try:
        ballot = Ballot.of(choice)
    except BattleError as error:
        assert error.code == "ballot"
        return
    assert ballot.both_bad == (choice == "both_bad")
    assert ballot.strength == (0 if ballot.both_bad else choice)
    assert -3 <= ballot.strength <= 3


@given(reason=st.text())
def test_reason_is_storable_text_or_refused(reason: str) -> None:
    try:
        kept = Ballot.of(1, reason=reason).reason
    except BattleError:
        assert len(reason) > 500
        return
    assert kept is None or ("\x00" not in kept and kept.encode("utf-8"))


STEPS = st.sampled_from(["ask", "store", "release", "deliver", "play", "vote", "undo", "reveal", "void", "retract"])


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(STEPS, st.floats(0.0, 9.0)), max_size=40))
def test_no_order_of_steps_breaks_the_rules(steps: list[tuple[str, float]]) -> None:
    """In whatever order: at most one vote stands, after both sides were heard, and only what stands is revealed."""
    battle, now = Battle("b", "r", 0.0), 0.0
    for step, wait in steps:
        now += wait
        before = battle
        try:
            if step == "ask":
                battle = battle.asked(now, RULES)
            elif step == "store":
                side = "left" if battle.rounds and "left" not in battle.rounds[-1].replies else "right"
                battle = battle.stored(side, 2.0, now, RULES)
            elif step == "release":
                battle = battle.released(now, RULES)
            elif step == "deliver":
                battle = battle.delivered(now, RULES)
            elif step == "play":
                for side in SIDES:
                    now += 2.0
                    battle = battle.played(len(battle.rounds) - 1, Played(side, 0.0, 2.0, now), now, RULES)
            elif step == "vote":
                battle = battle.voted(Ballot(2), now, RULES)
            elif step == "undo":
                battle = battle.undone(now, RULES)
            elif step == "reveal":
                battle = battle.revealed(now, RULES)
            elif step == "void":
                battle = battle.voided("failed")
            else:
                battle = battle.retracted(now)
        except BattleError as error:
            assert str(error).endswith(".")
            continue
        if len(battle.casts) > len(before.casts):
            assert before.standing is None
            assert all(each.enough for each in before.listening(RULES).replies)
            assert all(len(each.delivered) == 2 for each in before.rounds)
        if battle.revealed_at is not None:
            assert battle.standing is not None
            assert battle.revealed_at >= battle.standing.at + RULES.undo
        assert sum(each.undone_at is None for each in battle.casts) <= 1
        assert not (battle.void is not None and battle.standing is not None)
