"""The board: what is counted, what is said, and what is left unsaid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evaluation import rating_words
from evaluation.intervals import Estimate
from evaluation.rating_board import Repeats, make_board
from evaluation.rating_votes import BOTH_BAD, LEFT, RIGHT, TIE, Votes, VotesError
from evaluation.rating_world import World


def few(outcomes: list[int], sides: list[tuple[int, int]], **more) -> Votes:
    left, right = np.array(sides).reshape(-1, 2).T if sides else (np.zeros(0, int), np.zeros(0, int))
    strength = np.array([1, -1, 0, 0])[outcomes] if outcomes else np.zeros(0, int)
    rater = more.pop("rater", np.arange(len(outcomes)))
    return Votes(("base", "tuned", "idle"), left, right, np.array(outcomes, int), strength, rater, "human", **more)


@pytest.fixture(scope="module")
def crowd() -> Votes:
    """checkpoint-1 is preferred to checkpoint-2 73 % of the time, by 20 raters."""
    return World((1.0, 0.0), ties=-2, both_bad=0.1).votes(np.random.default_rng(0), 20, 20)


def test_head_to_head_counts_what_was_said() -> None:
    votes = few([LEFT, RIGHT, TIE, BOTH_BAD, LEFT], [(0, 1), (0, 1), (1, 0), (0, 1), (1, 0)])
    board = make_board(votes, "base", draws=20)
    base, tuned = board.checkpoints.index("base"), board.checkpoints.index("tuned")
    assert board.wins[tuned, base] == 2
    assert board.wins[base, tuned] == 1
    assert board.ties[base, tuned] == board.ties[tuned, base] == 1
    assert (board.votes, board.decided, board.raters) == (5, 3, 5)
    assert board.standing_of("tuned").both_bad.value == pytest.approx(0.2)


def test_checkpoint_without_votes_is_not_on_the_board() -> None:
    assert "idle" not in make_board(few([LEFT], [(0, 1)]), "base", draws=20).checkpoints
    with pytest.raises(VotesError, match="no votes on 'idle'"):
        make_board(few([LEFT], [(0, 1)]), "idle")
    with pytest.raises(VotesError, match="no votes yet"):
        make_board(few([], []), "base")


def test_nothing_but_both_bad_is_a_board_without_a_preference() -> None:
    board = make_board(few([BOTH_BAD] * 6, [(0, 1)] * 6), "base", draws=20)
    assert board.decided == 0
    assert board.standing_of("tuned").both_bad.value == 1
    assert rating_words.headline(board, "tuned") == "Nobody has preferred tuned to base, or the other way, yet."


def test_checkpoints_that_never_met_are_compared_through_others() -> None:
    votes = few([LEFT] * 40 + [RIGHT] * 8, [(1, 2)] * 24 + [(2, 0)] * 24)
    board = make_board(votes, "base", draws=50)
    assert board.standing_of("tuned").preferred.value > 0.5
    assert board.evidence_of("tuned").votes == 0


def test_headline_says_how_often_and_since_when(crowd: Votes) -> None:
    board = make_board(crowd, "checkpoint-2", draws=200)
    preferred, evidence = board.standing_of("checkpoint-1").preferred, board.evidence_of("checkpoint-1")
    said = rating_words.headline(board, "checkpoint-1")
    assert preferred.low < 0.731 < preferred.high
    assert said == (
        f"checkpoint-1 is preferred to checkpoint-2 {100 * preferred.value:.0f} % of the time "
        f"({100 * preferred.low:.0f}–{100 * preferred.high:.0f} %); "
        f"enough evidence after {evidence.in_general.after} votes."
    )


def test_headline_turns_round_when_the_anchor_is_better(crowd: Votes) -> None:
    said = rating_words.headline(make_board(crowd, "checkpoint-1", draws=50), "checkpoint-2")
    assert "enough evidence that checkpoint-1 is better after" in said


def test_one_rater_speaks_for_one_rater(crowd: Votes) -> None:
    alone = replace(crowd, rater=np.zeros(len(crowd), dtype=int))
    said = rating_words.headline(make_board(alone, "checkpoint-2", draws=50), "checkpoint-1")
    assert "enough evidence for this one rater after" in said
    assert said.endswith("for raters in general at least 5 more raters.")


def test_little_evidence_says_how_much_is_missing() -> None:
    votes = few([LEFT, LEFT, RIGHT], [(1, 0)] * 3)
    said = rating_words.headline(make_board(votes, "base", draws=50), "tuned")
    assert "not enough evidence yet, about " in said
    assert said.endswith("more votes.")
    even = few([LEFT, RIGHT] * 10, [(1, 0)] * 20)
    assert "and no difference in sight" in rating_words.headline(make_board(even, "base", draws=50), "tuned")


def test_dimension_counts_only_answers() -> None:
    answers = np.array([1, 1, 1, 0, 1, 1, np.nan, np.nan])
    votes = few([RIGHT] * 8, [(1, 0)] * 8, dimensions={"helpfulness": answers})
    [helpfulness] = make_board(votes, "base", draws=50).dimensions
    assert helpfulness.votes == 6
    assert helpfulness.preferred.value > 0.6
    few_answers = replace(votes, dimensions={"helpfulness": np.array([1.0] + [np.nan] * 7)})
    [helpfulness] = make_board(few_answers, "base", draws=50).dimensions
    assert (helpfulness.votes, helpfulness.preferred) == (1, None)


def test_categories_are_rated_apart(crowd: Votes) -> None:
    kind = np.where(np.arange(len(crowd)) % 2 == 0, "sum", "")
    [category] = make_board(replace(crowd, category=kind), "checkpoint-2", draws=50).categories
    assert category.aspect == "sum"
    assert category.votes == (crowd.outcome[::2] != BOTH_BAD).sum()


def test_kinds_with_few_votes_are_named_not_rated() -> None:
    votes = few([LEFT] * 7, [(1, 0)] * 7, category=np.array(["sums"] * 5 + ["month_before"] * 2, dtype=object))
    board = make_board(votes, "base", draws=50)
    assert rating_words.rare_kinds(board, "tuned") == "Fewer than 5 votes against base: month before."
    assert rating_words.rare_kinds(make_board(replace(votes, category=None), "base", draws=50), "tuned") is None


def test_covariates_adjust_where_they_are_known(crowd: Votes) -> None:
    rng = np.random.default_rng(1)
    length = rng.normal(0, 1, len(crowd))
    length[:100] = np.nan
    rare = np.full(len(crowd), np.nan)
    votes = replace(crowd, covariates={"words": length, "rare": rare, "flat": np.zeros(len(crowd))})
    board = make_board(votes, "checkpoint-2", draws=50)
    assert set(board.effects) == {"words"}
    assert board.adjusted[0].votes == (crowd.outcome[100:] != BOTH_BAD).sum()
    assert rating_words.adjusted(board, "checkpoint-1").startswith("With replies alike in number of words, ")
    assert rating_words.adjusted(make_board(crowd, "checkpoint-2", draws=50), "checkpoint-1") is None


def test_agreement_is_over_prompts_that_two_raters_judged() -> None:
    """Sides differ, the judgement is the same: full agreement; a rater's second vote on a prompt is not another."""
    votes = few(
        [LEFT, RIGHT, RIGHT, LEFT, LEFT],
        [(1, 0), (0, 1), (1, 0), (0, 1), (0, 1)],
        rater=np.array(["x", "y", "x", "y", "x"]),
        unit=np.array(["one", "one", "two", "two", "one"], dtype=object),
    )
    board = make_board(votes, "base", draws=50)
    assert board.agreement.value == pytest.approx(1)
    assert board.agreement.n == 2
    assert "alpha 1.00 over 2 prompts that two or more judged, too few for an interval" in rating_words.agreement(board)
    many = replace(board, agreement=Estimate(0.5, 0.2, 0.7, rating_words.FEWEST_PROMPTS))
    assert "alpha 0.50 (0.20 to 0.70) over 5 prompts" in rating_words.agreement(many)
    assert make_board(replace(votes, unit=None), "base", draws=50).agreement is None


def test_repeats_show_how_consistent_raters_are() -> None:
    repeats = Repeats(np.array([2, 1, -1]), np.array([1, -2, -3]), np.array(["x", "x", "y"]))
    board = make_board(few([LEFT], [(0, 1)]), "base", repeats, draws=20)
    assert board.consistency.value == pytest.approx(2 / 3)
    assert "the same 67 % of the time" in rating_words.agreement(board)
