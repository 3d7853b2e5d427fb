"""The figures of the Leaderboard: pure functions from a board to plotly figures, one look for light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app.components.plots import TEMPLATE
from evaluation.evidence import THRESHOLD, Evidence
from evaluation.intervals import Estimate
from evaluation.rating_board import FEWEST_OF_A_KIND, Board, Comparison
from evaluation.rating_words import COVARIATES, missing_votes

_TEAL, _GREY, _EVEN = "#14938a", "#7b8992", "rgba(128,144,152,0.75)"
_ROW = 46
"""Pixels a line of a forest plot takes: its label stands above its interval, so that long names fit a phone."""
_EDGES = {"l": 12, "r": 12, "t": 12, "b": 44}
_TRACK = "rgba(128,144,152,0.18)"
_CELLS = [[0.0, "rgba(217,115,13,0.42)"], [0.5, "rgba(128,144,152,0.06)"], [1.0, "rgba(20,147,138,0.48)"]]


@dataclass(frozen=True)
class Line:
    """One line of a forest plot; without an estimate ``said`` tells why. ``marked``: what others are measured by."""

    label: str
    estimate: Estimate | None
    said: str
    marked: bool = False


def interval_board(board: Board) -> go.Figure:
    """All checkpoints, best first: the share of decided votes each gets against the anchor, with its interval."""
    lines = []
    for each in board.standings:
        anchor = each.checkpoint == board.anchor
        here = Estimate(0.5, 0.5, 0.5, board.raters) if anchor else each.preferred
        lines.append(Line(each.checkpoint, here, "compared with" if anchor else _percent(here), anchor))
    return forest(lines, f"Preferred to {_short(board.anchor)} (%)")


def aspects(comparisons: Sequence[Comparison], anchor: str) -> go.Figure:
    """Dimensions or categories: each checkpoint against the anchor in each."""
    several = len({each.checkpoint for each in comparisons}) > 1
    lines = []
    for each in comparisons:
        aspect = each.aspect.replace("_", " ")
        label = f"{aspect} · {each.checkpoint}" if several else aspect
        votes = f"{each.votes} vote{'' if each.votes == 1 else 's'}"
        if each.preferred is None:
            lines.append(Line(label, None, f"{votes}: {FEWEST_OF_A_KIND} are needed"))
        else:
            lines.append(Line(label, each.preferred, _percent(each.preferred) + ("" if several else f" · {votes}")))
    return forest(lines, f"Preferred to {_short(anchor)} (%)")


def position_bias(board: Board) -> go.Figure:
    """How often the left side would be preferred between equals."""
    line = Line("Left side", board.left_share, _percent(board.left_share))
    return forest([line], "Preferred between equals (%)")


def effects(found: Mapping[str, Estimate]) -> go.Figure:
    """Logits by which one standard deviation more of each covariate helps a reply."""
    lines = [
        Line(COVARIATES.get(name, name), each, f"{each.value:+.2f} ({each.low:+.2f} to {each.high:+.2f})")
        for name, each in found.items()
    ]
    return forest(lines, "Logits per standard deviation", scale=1.0, even=0.0)


def forest(lines: Sequence[Line], title: str, scale: float = 100.0, even: float = 0.5) -> go.Figure:
    """Intervals one below the other around ``even``; values times ``scale``."""
    figure = go.Figure()
    count = len(lines)
    shown = [(place, line) for place, line in enumerate(lines) if line.estimate is not None]
    ends = [end for _, line in shown for end in (line.estimate.low, line.estimate.high)]
    reach = max([abs(end - even) for end in ends], default=0.0)
    reach = min(max(1.12 * reach, 0.15), 0.5) if scale == 100.0 else max(1.12 * reach, 0.3)
    figure.add_shape(
        type="line", x0=scale * even, x1=scale * even, y0=-0.5, y1=count - 0.5, line={"color": _EVEN, "dash": "dot"}
    )
    figure.add_scatter(
        x=[scale * line.estimate.value for _, line in shown],
        y=[place for place, _ in shown],
        error_x={
            "type": "data",
            "array": [scale * (line.estimate.high - line.estimate.value) for _, line in shown],
            "arrayminus": [scale * (line.estimate.value - line.estimate.low) for _, line in shown],
            "thickness": 2.5,
            "width": 0,
            "color": _TEAL,
        },
        mode="markers",
        marker={
            "size": [9 if line.marked else 11 for _, line in shown],
            "color": [_GREY if line.marked else _TEAL for _, line in shown],
            "opacity": 1,
            "symbol": ["diamond" if line.marked else "circle" for _, line in shown],
        },
        customdata=[[line.label, line.said] for _, line in shown],
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )
    for place, line in enumerate(lines):
        for text, x, anchor in ((f"<b>{_short(line.label)}</b>", 0, "left"), (line.said, 1, "right")):
            figure.add_annotation(
                x=x, xref="paper", xanchor=anchor, y=place, yshift=16, text=text, showarrow=False, font={"size": 12}
            )
    figure.update_layout(template=TEMPLATE, height=_ROW * count + 66, margin=_EDGES, hovermode="closest")
    figure.update_yaxes(visible=False, range=[count - 0.5, -0.75], fixedrange=True)
    figure.update_xaxes(
        title=title, range=[scale * (even - reach), scale * (even + reach)], fixedrange=True, nticks=6, showgrid=True
    )
    return figure


def head_to_head(board: Board) -> go.Figure:
    """Row against column: the row's share of decided votes, and out of how many. Raw counts, nothing fitted."""
    names = board.checkpoints
    shares, texts, hovers = [], [], []
    for i, row in enumerate(names):
        shares.append([])
        texts.append([])
        hovers.append([])
        for j, column in enumerate(names):
            won, lost, tied = (int(table) for table in (board.wins[i, j], board.wins[j, i], board.ties[i, j]))
            decided = won + lost
            shares[-1].append(None if i == j or not decided else 100 * won / decided)
            texts[-1].append("" if i == j else f"{100 * won / decided:.0f} %<br>{won} of {decided}" if decided else "–")
            hovers[-1].append("" if i == j else f"{row} over {column}: {won} won, {lost} lost, {tied} ties")
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=[_short(name) for name in names],
            y=[_short(name) for name in names],
            text=texts,
            customdata=hovers,
            texttemplate="%{text}",
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=_CELLS,
            zmin=0,
            zmax=100,
            showscale=False,
            xgap=3,
            ygap=3,
            hoverongaps=False,
        )
    )
    figure.update_layout(template=TEMPLATE, height=90 + 56 * len(names), hovermode="closest")
    figure.update_layout(margin={"l": 12, "r": 12, "t": 44, "b": 12})
    figure.update_xaxes(side="top", fixedrange=True, showgrid=False, automargin=True, title="preferred over")
    figure.update_yaxes(autorange="reversed", fixedrange=True, showgrid=False, automargin=True)
    return figure


def evidence_meter(evidence: Evidence) -> go.Figure:
    """How far the e-values have come towards enough, on the scale of their logarithm, for both questions."""
    figure = go.Figure()
    questions = (("These raters", evidence.these_raters), ("Raters in general", evidence.in_general))
    for place, (label, question) in enumerate(questions):
        reached = question.after is not None
        said = f"enough after {question.after} votes" if reached else missing_votes(question)
        figure.add_bar(x=[100], y=[place], orientation="h", marker={"color": _TRACK}, width=0.34, hoverinfo="skip")
        strongest = max(question.for_it, question.against_it)
        figure.add_bar(
            x=[100 * question.share],
            y=[place],
            orientation="h",
            marker={"color": _TEAL},
            opacity=1.0 if reached else 0.62,
            width=0.34,
            hovertemplate=f"e-value {min(strongest, 1e6):.3g} of {THRESHOLD:.0f}<extra></extra>",
        )
        for text, x, anchor in ((f"<b>{label}</b>", 0, "left"), (said, 1, "right")):
            figure.add_annotation(
                x=x, xref="paper", xanchor=anchor, y=place, yshift=21, text=text, showarrow=False, font={"size": 12}
            )
    figure.update_layout(template=TEMPLATE, height=2 * 54 + 66, margin=_EDGES, barmode="overlay", hovermode="closest")
    figure.update_yaxes(visible=False, range=[1.4, -0.75], fixedrange=True)
    ticks = [1, 3, 10, THRESHOLD]
    figure.update_xaxes(
        range=[0, 101],
        fixedrange=True,
        tickvals=[100 * math.log(each) / math.log(THRESHOLD) for each in ticks],
        ticktext=[f"{each:.0f}" for each in ticks],
        title=f"e-value ({THRESHOLD:.0f} is enough)",
        showgrid=False,
    )
    return figure


def nothing_yet(sentence: str) -> go.Figure:
    """An empty figure that says what it waits for."""
    figure = go.Figure()
    figure.add_annotation(
        text=sentence, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14}, width=300
    )
    figure.update_layout(template=TEMPLATE, height=130)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "no votes against it"
    return f"{100 * estimate.value:.0f} % ({100 * estimate.low:.0f}–{100 * estimate.high:.0f})"


def _short(name: str, most: int = 22) -> str:
    """A name that fits a phone; the hover keeps the whole."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
