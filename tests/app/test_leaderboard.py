"""The Leaderboard: from votes in the store to figures and words, and what it keeps to itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import plotly.graph_objects as go
import pytest

from app.components import leaderboard_plots as plots
from app.pages import leaderboard_view as view
from app.pages.leaderboard import PEOPLE, SIMULATED, _Page
from app.pages.leaderboard_votes import SETTLED_SECONDS, Boards, as_votes, repeats_of
from app.store import Store, StoreError, open_store
from app.store.schema import BattleRow
from tests.app.arena import Arena, make_arena, typed

LOW, HIGH = "base", "tuned"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path, None)
    yield opened
    opened.close()


@pytest.fixture
def arena(store: Store) -> Arena:
    return make_arena(store)


@pytest.fixture
def boards(arena: Arena) -> Boards:
    return Boards(lambda: arena.voting.store, arena.clock)


@pytest.fixture
def page(arena: Arena, boards: Boards) -> _Page:
    return _Page(SimpleNamespace(voting=arena.voting), boards)


def prefer(arena: Arena, name: str, rater: str, strength: int = 2, words: str = "what is two plus two", **said) -> str:
    """A vote for ``name``, whichever side it stands on; settled. Returns the battle."""
    battle = arena.heard(rater, typed(words))
    with arena.voting.store.reading() as session:
        left = session.get(BattleRow, battle).left
    arena.voting.vote(battle, rater, strength if left == name else -strength, **said)
    arena.clock.forward(SETTLED_SECONDS + 1)
    return battle


def picked(page: _Page, place: object) -> str:
    event = gr.EventData(None, {"place": place})
    return page.pick(event, HIGH, LOW, PEOPLE)


def test_vote_shows_only_after_it_can_no_longer_be_undone(arena: Arena, boards: Boards) -> None:
    arena.join()
    arena.voted(2)
    assert boards.ballots("human").counted == ()
    arena.clock.forward(SETTLED_SECONDS + 1)
    assert len(boards.ballots("human").counted) == 1


def test_sides_turn_into_checkpoints(arena: Arena, boards: Boards) -> None:
    for rater in ("b-1", "b-2", "b-3"):
        arena.join(rater)
        for _ in range(4):
            prefer(arena, HIGH, rater)
    ballots = boards.ballots("human")
    votes = as_votes(ballots)
    assert set(votes.covariates) == {"log_duration_ratio", "articulation_rate", "words", "loudness_residual"}
    board = boards.board(ballots, LOW)
    assert board.evidence_of(HIGH).wins == 12
    assert board.evidence_of(HIGH).losses == 0
    assert board.standing_of(HIGH).preferred.value > 0.8


def test_board_is_computed_once_until_a_vote_comes_or_goes(arena: Arena, boards: Boards) -> None:
    arena.join()
    prefer(arena, HIGH, "b-1")
    ballots = boards.ballots("human")
    assert boards.ballots("human") is ballots
    assert boards.board(ballots, LOW) is boards.board(ballots, LOW)
    prefer(arena, LOW, "b-1")
    assert boards.board(boards.ballots("human"), LOW).votes == 2


def test_people_and_simulated_raters_have_boards_of_their_own(arena: Arena, boards: Boards, page: _Page) -> None:
    arena.join("b-1")
    arena.join("s-1", source="simulated")
    prefer(arena, HIGH, "b-1")
    prefer(arena, LOW, "s-1")
    assert [each.rater for each in boards.ballots("human").counted] == ["b-1"]
    assert [each.rater for each in boards.ballots("simulated").counted] == ["s-1"]
    assert view.SIMULATED not in page.draw(None, None, PEOPLE)[0]
    assert view.SIMULATED in page.draw(None, None, SIMULATED)[0]


def test_without_votes_the_page_says_how_many_it_takes(page: _Page) -> None:
    head, *_ = page.draw(None, None, None)
    assert "No votes yet." in head
    assert "after about 37 votes" in head


def test_without_votes_of_people_the_page_says_that_simulated_ones_are_there(arena: Arena, page: _Page) -> None:
    arena.join("s-1", source="simulated")
    prefer(arena, LOW, "s-1")
    head, *_ = page.draw(None, None, None)
    assert "No votes yet." in head
    assert "Simulated raters cast 1 vote:" in head


def test_page_answers_first_and_draws_every_figure(arena: Arena, page: _Page) -> None:
    arena.join()
    for index in range(3):
        prefer(arena, HIGH, "b-1", helpfulness=1 if index else None)
    prefer(arena, LOW, "b-1")
    drawn = page.draw(None, None, PEOPLE)
    assert "tuned is preferred to base" in drawn[0] or "base is preferred to tuned" in drawn[0]
    assert sum(isinstance(each, go.Figure) for each in drawn) == 7
    marked = drawn[-1]
    assert all(each == gr.skip() for each in page.refresh(HIGH, LOW, PEOPLE, marked))
    prefer(arena, LOW, "b-1")
    again = page.refresh(HIGH, LOW, PEOPLE, marked)
    assert "is preferred to" in again[0]
    assert again[-2] == gr.skip()  # the recordings somebody may be listening to


def test_where_it_got_worse_plays_both_sides(arena: Arena, page: _Page) -> None:
    arena.join()
    prefer(arena, HIGH, "b-1")
    prefer(arena, LOW, "b-1", words="what is the <b>capital</b>", reason="Wrong & loud.")
    listed = page.draw(HIGH, LOW, PEOPLE)[-3]
    assert listed.count("data-battle=") == 1
    assert "&lt;b&gt;capital" in listed
    shown = picked(page, 0)
    assert shown.count("data:audio/wav;base64,UklGR") == 2
    assert "Wrong &amp; loud." in shown


@pytest.mark.parametrize("place", [1, -1, None, "0", 0.5, True, 10**9])
def test_forged_place_plays_nothing(arena: Arena, page: _Page, place: object) -> None:
    arena.join()
    prefer(arena, LOW, "b-1")
    assert "data:audio" not in picked(page, place)


def test_what_may_not_be_published_is_counted_but_not_played(arena: Arena, page: _Page) -> None:
    arena.join("b-1", "research")
    prefer(arena, LOW, "b-1", words="a secret")
    drawn = page.draw(HIGH, LOW, PEOPLE)
    assert "1 vote of 1 rater" in drawn[0]
    assert "secret" not in drawn[-3]
    assert "1 more, whose raters did not allow publishing" in drawn[-3]
    assert "data:audio" not in picked(page, 0)


def test_retracted_vote_leaves_the_board_and_is_accounted_for(arena: Arena, boards: Boards, page: _Page) -> None:
    arena.join()
    prefer(arena, HIGH, "b-1")
    receipt = arena.voted(1)
    arena.clock.forward(SETTLED_SECONDS + 1)
    arena.voting.retract(receipt.receipt, "b-1")
    assert len(boards.ballots("human").counted) == 1
    assert "Not counted: 1 taken back." in page.draw(None, None, PEOPLE)[0]


def test_repeats_put_the_sides_back(arena: Arena, boards: Boards) -> None:
    arena.join()
    first = prefer(arena, HIGH, "b-1")
    [record] = boards.ballots("human").counted
    again = SimpleNamespace(
        kind="repeat", excluded="repeat", repeat_of=first, outcome="left", strength=-record.strength, rater="b-1"
    )
    repeats = repeats_of(SimpleNamespace(counted=(record,), all=(record, again)))
    assert repeats.first.tolist() == repeats.second.tolist()


def test_database_that_cannot_be_used_is_one_sentence() -> None:
    def broken() -> Store:
        raise StoreError("The database is on a network mount.")

    page = _Page(SimpleNamespace(), Boards(broken))
    head = page.draw(None, None, None)[0]
    assert "The database is on a network mount." in head


def test_figures_keep_names_that_fit_a_phone() -> None:
    figure = plots.forest([plots.Line("a" * 60, None, "1 vote: 5 are needed")], "Preferred")
    assert max(len(each.text) for each in figure.layout.annotations) < 40
    assert "Nobody" in plots.nothing_yet("Nobody answered them yet.").layout.annotations[0].text
