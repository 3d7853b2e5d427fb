"""What a board says, in one sentence a question. Numbers are rounded as people say them."""

from __future__ import annotations

from evaluation.evidence import FEWEST_RATERS, Evidence, Question, votes_needed
from evaluation.intervals import Estimate
from evaluation.rating_board import FEWEST_OF_A_KIND, Board

FEWEST_PROMPTS = 5
"""Resampling fewer says less than how far off the value may be."""
COVARIATES = {
    "log_duration_ratio": "length",
    "articulation_rate": "speed of speech",
    "words": "number of words",
    "loudness_residual": "loudness",
}
"""What the covariates of votes are called."""


def headline(board: Board, checkpoint: str) -> str:
    """The answer first: how often it is preferred to the anchor, and whether that is enough evidence."""
    preferred, evidence = board.standing_of(checkpoint).preferred, board.evidence_of(checkpoint)
    if preferred is None or not evidence.wins + evidence.losses:
        return f"Nobody has preferred {checkpoint} to {board.anchor}, or the other way, yet."
    share = f"{checkpoint} is preferred to {board.anchor} {100 * preferred.value:.0f} % of the time"
    return f"{share} ({_range(preferred)}); {verdict(evidence)}."


def verdict(evidence: Evidence) -> str:
    """Whether the evidence is enough, for whom, or how much is missing."""
    general, these = evidence.in_general, evidence.these_raters
    if general.after is not None:
        loser = "" if general.winner > 0 else f" that {evidence.against} is better"
        return f"enough evidence{loser} after {_votes(general.after)}"
    if these.after is not None:
        who = "this one rater" if evidence.raters == 1 else f"these {evidence.raters} raters"
        missing = max(0, FEWEST_RATERS - evidence.raters)
        then = f"at least {missing} more raters" if missing else missing_votes(general)
        return f"enough evidence for {who} after {_votes(these.after)}, for raters in general {then}"
    return f"not enough evidence yet, {missing_votes(general if general.more is not None else these)}"


def missing_votes(question: Question) -> str:
    """About how many more votes, or that no end is in sight."""
    if question.more is None:
        return "and no difference in sight"
    return f"about {_about(question.more)} more {'vote' if question.more == 1 else 'votes'}"


def votes_to_expect() -> str:
    """For a board without votes: what it will take."""
    clear, small = votes_needed(0.75), votes_needed(0.6)
    return (
        f"A clear difference (preferred 75 % of the time) shows after about {_about(clear)} votes, "
        f"a small one (60 %) after about {_about(small)}; to speak for other raters too, it takes {FEWEST_RATERS} of "
        "them or more."
    )


def left_side(board: Board) -> str:
    """Position bias in a sentence."""
    share = board.left_share
    said = f"Between equals, the left side would be preferred {100 * share.value:.0f} % of the time ({_range(share)})"
    if share.low <= 0.5 <= share.high:
        return f"{said}: no preference for a side can be told."
    return f"{said}: raters lean to the {'left' if share.value > 0.5 else 'right'}. The ratings allow for it."


def adjusted(board: Board, checkpoint: str) -> str | None:
    """The preference as if both replies were alike in what was measured; None where that is not known."""
    found = next((each for each in board.adjusted if each.checkpoint == checkpoint), None)
    if found is None or found.preferred is None:
        return None
    names = [COVARIATES.get(name, name) for name in board.effects]
    alike = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    share = f"{100 * found.preferred.value:.0f} % of the time ({_range(found.preferred)})"
    return f"With replies alike in {alike}, {checkpoint} would be preferred to {board.anchor} {share}."


def rare_kinds(board: Board, checkpoint: str) -> str | None:
    """Which kinds of prompts cannot be told apart yet; None when all can, or none are known."""
    about = [each for each in board.categories if each.checkpoint == checkpoint]
    rare = sorted(each.aspect.replace("_", " ") for each in about if each.preferred is None)
    if not rare:
        return None
    return f"Fewer than {FEWEST_OF_A_KIND} votes against {board.anchor}: {', '.join(rare)}."


def agreement(board: Board) -> str:
    """Agreement between raters, and of raters with themselves."""
    if board.agreement is None:
        between = "Agreement between raters: no prompt was judged by two raters yet, or all judged alike."
    else:
        each = board.agreement
        enough = each.n >= FEWEST_PROMPTS
        between = (
            f"Agreement between raters: Krippendorff's alpha {each.value:.2f}"
            f"{f' ({each.low:.2f} to {each.high:.2f})' if enough else ''} over {each.n} "
            f"{'prompt' if each.n == 1 else 'prompts'} that two or more judged"
            f"{'' if enough else ', too few for an interval'}; 1 is full agreement, 0 chance."
        )
    if board.consistency is None:
        return f"{between} No battle came again with its sides swapped yet."
    again = board.consistency
    return (
        f"{between} When a battle came again with its sides swapped, raters said the same "
        f"{100 * again.value:.0f} % of the time ({_range(again)}, {board.repeats} repeats)."
    )


def _range(estimate: Estimate) -> str:
    return f"{100 * estimate.low:.0f}–{100 * estimate.high:.0f} %"


def _votes(count: int) -> str:
    return f"{count:,} {'vote' if count == 1 else 'votes'}"


def _about(count: int) -> str:
    """Two leading digits: an estimate has no more."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return f"{-(-count // unit) * unit:,}"
