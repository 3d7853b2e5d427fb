"""The Leaderboard page: is it better than the base, how sure is that, and where did it get worse."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from app import discretion
from app.components import leaderboard_plots as plots
from app.pages import leaderboard_view as view
from app.pages.leaderboard_votes import SOURCES, Ballots, Boards, Source
from app.services import Services
from app.store import StoreError, queries
from evaluation.rating_board import Board

PEOPLE, SIMULATED = "People", "Simulated raters"
_LABELS: dict[Source, str] = {"human": PEOPLE, "simulated": SIMULATED}
_SOURCE = {label: source for source, label in _LABELS.items()}
_REFRESH_SECONDS = 20
_LISTED = 20
_FEW = 5
_OUTPUTS = 19


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open."""
    page = _Page(services, Boards(lambda: services.voting.store))
    with gr.Column(elem_id="leaderboard"):
        head = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="board-head")
        with gr.Row(elem_id="board-choice", visible=False) as choice:
            focus = gr.Dropdown([], label="Is", min_width=200, filterable=False, elem_id="board-focus")
            anchor = gr.Dropdown([], label="better than", min_width=200, filterable=False, elem_id="board-anchor")
            source = gr.Dropdown([PEOPLE], value=PEOPLE, label="Votes of", min_width=200, filterable=False)
        with gr.Column(visible=False, elem_id="board-body") as body:
            board = _plot("Board", "board-intervals")
            table = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="board-table")
            with gr.Row(equal_height=True):
                meter = _plot("Evidence", "board-meter")
                matrix = _plot("Head to head", "board-matrix")
            with gr.Row(equal_height=True):
                dimensions = _plot("By question", "board-dimensions")
                categories = _plot("By kind of prompt", "board-categories")
            with gr.Row(equal_height=True):
                position = _plot("Position bias", "board-position")
                effects = _plot("What else moves votes", "board-effects")
            notes = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="board-notes")
            lost_title = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="board-lost-title")
            losses = gr.HTML(
                "",
                apply_default_css=False,
                js_on_load="""
                    element.addEventListener("click", (event) => {
                      const pressed = event.target.closest("[data-battle]");
                      if (!pressed) return;
                      element.querySelectorAll("[data-battle]").forEach((each) =>
                        each.toggleAttribute("aria-current", each === pressed));
                      trigger("pick", { place: Number(pressed.dataset.battle) });
                    });
                """,
                elem_id="board-losses",
            )
            both = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="board-both")
    shown = gr.State(None)
    chosen = [focus, anchor, source]
    everything = [
        *(head, choice, focus, anchor, source, body, board, meter, matrix, dimensions, categories),
        *(position, effects, table, notes, lost_title, losses, both, shown),
    ]
    quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    for control in chosen:
        control.input(page.draw, chosen, everything, **quiet)
    gr.context.Context.root_block.load(page.draw, chosen, everything, **quiet)
    gr.Timer(_REFRESH_SECONDS).tick(page.refresh, [*chosen, shown], everything, **quiet)
    losses.pick(page.pick, chosen, both, **quiet)


def _plot(title: str, id: str) -> gr.Plot:
    with gr.Column(min_width=320, elem_classes="board-panel"):
        gr.HTML(f"<h3>{title}</h3>", apply_default_css=False, js_on_load=None)
        return gr.Plot(show_label=False, container=False, elem_id=id)


class _Page:
    """Handlers: they translate between the widgets and the boards."""

    def __init__(self, services: Services, boards: Boards) -> None:
        self._services = services
        self._boards = boards

    def draw(self, focus: str | None, anchor: str | None, label: str | None) -> list[Any]:
        """Everything on the page, for these choices; a choice that is no longer there falls back to the default."""
        try:
            ballots, sources = self._ballots(label)
            if not ballots.counted:
                others = len(self._boards.ballots("simulated").counted) if "simulated" in sources else 0
                return self._nothing(view.empty(ballots.source, others), sources, ballots.source)
            anchor = anchor if anchor in ballots.checkpoints else ballots.anchor
            board = self._boards.board(ballots, anchor)
        except StoreError as error:
            return self._nothing(view.trouble(discretion.told(error)), ["human"], "human")
        others = [name for name in board.checkpoints if name != anchor]
        focus = focus if focus in others else others[0]
        rows, hidden = _publishable(ballots, focus, anchor)
        return [
            view.headline(board, focus, ballots.excluded()),
            gr.Row(visible=True),
            gr.Dropdown(others, value=focus, visible=True),
            gr.Dropdown(list(board.checkpoints), value=anchor, visible=True),
            gr.Dropdown([_LABELS[each] for each in sources], value=_LABELS[ballots.source], visible=len(sources) > 1),
            gr.Column(visible=True),
            *_figures(board, focus),
            view.standings(board),
            view.notes(board, focus),
            f"<h3>Where {html.escape(focus)} got worse</h3>",
            view.losses(rows, hidden, ballots.prompts, focus, anchor),
            "",
            _mark(ballots),
        ]

    def refresh(self, focus: str | None, anchor: str | None, label: str | None, shown: Any) -> list[Any]:
        """Draws again only when votes came or went: nothing blinks, and what is being listened to stays."""
        try:
            ballots, _ = self._ballots(label)
        except StoreError:
            return [gr.skip()] * _OUTPUTS
        if _mark(ballots) == shown:
            return [gr.skip()] * _OUTPUTS
        drawn = self.draw(focus, anchor, label)
        drawn[-2] = gr.skip()  # somebody may be listening to it
        return drawn

    def pick(self, event: gr.EventData, focus: str | None, anchor: str | None, label: str | None) -> str:
        """Both recordings of one battle of the list."""
        try:
            ballots, _ = self._ballots(label)
            rows, _ = _publishable(ballots, focus or "", anchor or "")
            place = event._data.get("place") if isinstance(event._data, dict) else None
            if not isinstance(place, int) or not 0 <= place < len(rows):
                return view.trouble("That battle is not on the list any more: choose another.")
            row = rows[place]
            replies = queries.recordings(self._services.voting.store, row.battle)
            for each in replies:
                each["wav"] = each["audio"].read_bytes() if each["audio"] and each["audio"].is_file() else None
            return view.both(ballots.prompts.get(row.battle, ""), replies, row.reason)
        except StoreError as error:
            return view.trouble(discretion.told(error))

    def _ballots(self, label: str | None) -> tuple[Ballots, list[Source]]:
        """The votes asked for, those of people by default, and the sources that there are."""
        each = {source: self._boards.ballots(source) for source in SOURCES}
        sources = [source for source in SOURCES if source == "human" or each[source].counted]
        asked = _SOURCE.get(label or "", "human")
        return each[asked if asked in sources else "human"], sources

    def _nothing(self, head: str, sources: list[Source], source: Source) -> list[Any]:
        drop = gr.Dropdown([_LABELS[each] for each in sources], value=_LABELS[source], visible=len(sources) > 1)
        nobody = gr.Dropdown([], value=None, visible=False)
        choice = [gr.Row(visible=len(sources) > 1), nobody, nobody, drop]
        return [head, *choice, gr.Column(visible=False), *[None] * 7, "", "", "", "", "", None]


def _figures(board: Board, focus: str) -> list[go.Figure]:
    about = [each for each in board.categories if each.checkpoint == focus]
    about = [each for each in about if each.preferred is not None] or about[:_FEW]  # the others are in the notes
    fewer = plots.nothing_yet
    return [
        plots.interval_board(board),
        plots.evidence_meter(board.evidence_of(focus)),
        plots.head_to_head(board),
        plots.aspects(board.dimensions, board.anchor) if _any(board.dimensions) else fewer("Nobody answered them yet."),
        plots.aspects(about, board.anchor) if about else fewer("No kinds of prompts are known."),
        plots.position_bias(board),
        plots.effects(board.effects) if board.effects else fewer("Too few votes with measured replies."),
    ]


def _any(comparisons: Any) -> bool:
    return any(each.votes for each in comparisons)


def _publishable(ballots: Ballots, focus: str, anchor: str) -> tuple[list[Any], int]:
    """The battles to listen to, and how many are kept back: everybody who has the link can hear what is here."""
    lost = ballots.lost(focus, anchor)
    free = [each for each in lost if each.consent == "publish"]
    return free[:_LISTED], len(lost) - len(free)


def _mark(ballots: Ballots) -> str:
    """Tells states of the votes apart."""
    last = ballots.all[-1].vote if ballots.all else ""
    return f"{ballots.source}:{len(ballots.all)}:{len(ballots.counted)}:{last}"
