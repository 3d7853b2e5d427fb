"""The Checkpoints page: what is loaded and what it takes; add, unload, remove; where promoted adapters come from."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages.checkpoints_desk import CheckpointsDesk
from app.services import Services
from app.settings import PAGE_FILES

_SCRIPTS = ("checkpoints-list.js", "checkpoints-add.js", "checkpoints.js")
_TEMPLATE = (
    '<div class="points"><p class="points-live" aria-live="polite"></p><p class="points-alert" role="alert" hidden></p>'
    '<div class="points-memory"></div><div class="points-list"></div><div class="points-add"></div></div>'
)


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open."""
    desk = CheckpointsDesk(services)

    def checkpoints(message: Any) -> dict[str, Any]:
        return desk.answer(message)

    gr.HTML(
        value={},
        html_template=_TEMPLATE,
        js_on_load="\n".join((PAGE_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        apply_default_css=False,
        server_functions=[checkpoints],
        elem_id="points",
    )
