"""The words of the Leaderboard as HTML. Knows no Gradio; everything from outside is escaped here."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.store.queries import VoteRecord
from evaluation import rating_words
from evaluation.intervals import Estimate
from evaluation.rating_board import Board

_STRENGTH = {1: "slightly better", 2: "better", 3: "much better"}
_REASONS = {
    "retracted": "taken back",
    "erased": "erased by their raters",
    "consent": "not allowed to be used",
    "gold": "checks with a spoilt side",
    "repeat": "repeats",
    "flag": "flagged",
}
SIMULATED = "Simulated raters. No person cast these votes."


def headline(board: Board, focus: str, excluded: Mapping[str, int]) -> str:
    """The answer first, then what it rests on."""
    label = f'<p class="board-simulated">{SIMULATED}</p>' if board.source == "simulated" else ""
    preferred = board.standing_of(focus).preferred
    detail = f"Ties aside; {100 * board.tie_share:.0f} % of battles between equals are ties. " if preferred else ""
    rest = "".join(
        f"<li>{html.escape(rating_words.headline(board, name))}</li>"
        for name in board.checkpoints
        if name not in (focus, board.anchor)
    )
    return (
        f'<section class="board-head">{label}<h2>{_unbroken(rating_words.headline(board, focus))}</h2>'
        f"<p>{_counts(board)} {detail}{_excluded(excluded)}</p>{f'<ul>{rest}</ul>' if rest else ''}</section>"
    )


def empty(source: str, simulated: int = 0) -> str:
    """Before the first vote: what it takes, and that there are votes of ``simulated`` raters to look at meanwhile."""
    votes = f"{simulated:,} vote{'' if simulated == 1 else 's'}"
    others = f"<p>Simulated raters cast {votes}: choose them below to see a board.</p>" if simulated else ""
    label = f'<p class="board-simulated">{SIMULATED}</p>' if source == "simulated" else ""
    return (
        f'<section class="board-head board-empty">{label}<h2>No votes yet.</h2>'
        f"<p>{html.escape(rating_words.votes_to_expect())} A vote shows here half a minute after it was cast.</p>"
        f"{others}"
        '<p><a class="board-go" href="arena">Go to the Arena</a></p></section>'
    )


def trouble(sentence: str) -> str:
    return f'<section class="board-head"><p class="board-trouble" role="alert">{html.escape(sentence)}</p></section>'


def standings(board: Board) -> str:
    """The board's numbers as a table."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(each.checkpoint)}</th><td>{_ranks(each.best, each.worst)}</td>'
        f"<td>{_share(each.preferred)}</td><td>{each.votes:,}</td><td>{_share(each.both_bad)}</td></tr>"
        for each in board.standings
    )
    titles = ("Checkpoint", "Rank", f"Preferred to {html.escape(board.anchor)}", "Votes", "Both bad")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    hint = "Ranks hold together with 95 %; so does each interval by itself. Both bad: share of its battles."
    return (
        f'<div class="board-table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="board-hint">{hint}</p>'
    )


def notes(board: Board, focus: str) -> str:
    """Position bias, adjustment, agreement, and which kinds of prompts have too few votes, in words."""
    said = (
        rating_words.left_side(board),
        rating_words.adjusted(board, focus),
        rating_words.agreement(board),
        rating_words.rare_kinds(board, focus),
    )
    return '<div class="board-notes">' + "".join(f"<p>{html.escape(each)}</p>" for each in said if each) + "</div>"


def losses(rows: Sequence[VoteRecord], hidden: int, prompts: Mapping[str, str], focus: str, anchor: str) -> str:
    """The list of battles that ``focus`` lost; a press on one triggers "pick" with its place in the list."""
    items = "".join(
        f'<li><button type="button" data-battle="{place}"><span class="board-asked">'
        f"{html.escape(prompts.get(each.battle) or 'A spoken question')}</span>"
        f'<span class="board-said">{html.escape(anchor)} {_STRENGTH[abs(each.strength)]}'
        f"{f' · {html.escape(each.category)}' if each.category else ''}</span></button></li>"
        for place, each in enumerate(rows)
    )
    kept = f'<p class="board-hint">{hidden} more, whose raters did not allow publishing.</p>' if hidden else ""
    if not items:
        nothing = f"{html.escape(focus)} lost no battle to {html.escape(anchor)} yet."
        return f'<div class="board-losses"><p class="board-hint">{nothing if not hidden else ""}</p>{kept}</div>'
    return f'<div class="board-losses"><ol>{items}</ol>{kept}</div>'


def both(prompt: str, replies: Sequence[Mapping[str, Any]], reason: str | None) -> str:
    """One battle: both sides of every turn to listen to, with their words. ``wav`` bytes, None when erased."""
    turns: dict[int, list[Mapping[str, Any]]] = {}
    for each in replies:
        turns.setdefault(each["turn"], []).append(each)
    rows = "".join(
        f'<div class="board-turn">{"".join(_reply(each) for each in sides)}</div>' for _, sides in sorted(turns.items())
    )
    why = f'<p class="board-hint">The rater wrote: “{html.escape(reason)}”</p>' if reason else ""
    return f'<div class="board-both"><p class="board-asked">“{html.escape(prompt)}”</p>{rows}{why}</div>'


def _reply(reply: Mapping[str, Any]) -> str:
    name = html.escape(reply["checkpoint"])
    if reply["wav"] is None:
        player = '<p class="board-hint">The recording was erased.</p>'
    else:
        data = base64.b64encode(reply["wav"]).decode("ascii")
        player = f'<audio controls preload="metadata" aria-label="{name}" src="data:audio/wav;base64,{data}"></audio>'
    return f"<figure><figcaption>{name}</figcaption>{player}<p>{html.escape(reply['text'] or '')}</p></figure>"


def _ranks(best: int, worst: int) -> str:
    return f"{best}" if best == worst else f"{best}–{worst}"


def _share(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{100 * estimate.value:.0f} % <small>({100 * estimate.low:.0f}–{100 * estimate.high:.0f})</small>"


def _unbroken(sentence: str) -> str:
    """Escaped, with what stands in brackets kept on one line."""
    return re.sub(r"\([^)]*\)", lambda found: f'<span class="board-unbroken">{found[0]}</span>', html.escape(sentence))


def _counts(board: Board) -> str:
    raters = f"{board.raters} rater{'' if board.raters == 1 else 's'}"
    return f"{board.votes:,} vote{'' if board.votes == 1 else 's'} of {raters}, {board.decided:,} of them decided."


def _excluded(excluded: Mapping[str, int]) -> str:
    if not excluded:
        return ""
    said = ", ".join(f"{count} {_REASONS.get(reason, html.escape(reason))}" for reason, count in excluded.items())
    return f"Not counted: {said}."
