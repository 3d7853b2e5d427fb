"""What a client's reports are worth."""

from __future__ import annotations

import pytest

from app.battles import Round, Rules
from app.listening import Played, covered, listening

RULES = Rules(listen_least=3.0, listen_share=0.5, clock_slack=0.5)


def a_round(*played: Played, seconds: float = 8.0, at: float = 100.0) -> Round:
    return Round(at, {"left": seconds, "right": seconds}, at, {"left": at, "right": at}, played)


@pytest.mark.parametrize(("seconds", "needed"), [(1.0, 0.85), (3.1, 2.95), (4.0, 3.0), (8.0, 4.0), (20.0, 10.0)])
def test_share_of_long_replies_three_seconds_of_short_ones_all_of_shorter(seconds: float, needed: float) -> None:
    assert RULES.needed(seconds) == pytest.approx(needed)


def test_what_is_heard_twice_counts_once() -> None:
    assert covered([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4.0
    assert covered([]) == 0.0


def test_time_bounds_what_reports_are_worth() -> None:
    """At 104 no more than 4 s (and half a second's slack) can have been played since 100, on both sides together."""
    honest = Played("left", 0.0, 4.0, 104.0)
    liar = Played("right", 0.0, 4.0, 104.0)
    found = listening([a_round(honest, liar)], RULES)
    assert found.impossible == (liar,)
    assert [each.heard for each in found.replies] == [4.0, 0.0]
    later = Played("right", 0.0, 4.0, 108.0)
    assert listening([a_round(honest, later)], RULES).missing(108.0) is None


def test_vote_opens_no_sooner_than_listening_takes() -> None:
    found = listening([a_round()], RULES)
    assert found.ready_at == 100.0 + 4.0 + 4.0 - 0.5


def test_two_turns_take_the_time_of_both() -> None:
    first = a_round(Played("left", 0, 4, 104), Played("right", 0, 4, 108))
    second = a_round(Played("left", 0, 4, 124), Played("right", 0, 4, 128), at=120.0)
    assert listening([first, second], RULES).missing(128.0) is None
    greedy = a_round(Played("left", 0, 4, 124), Played("right", 0, 4, 125), at=120.0)
    assert listening([first, greedy], RULES).missing(128.0) == "Listen to B first, then vote."


def test_nothing_delivered_is_nothing_heard() -> None:
    assert listening([Round(1.0)], RULES).replies == ()
