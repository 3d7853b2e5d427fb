"""The Evaluate page: pick checkpoints and tasks, let them answer, see what became better and what worse, listen."""

from __future__ import annotations

import threading
from typing import Any

import gradio as gr

from app.pages.evaluate_desk import EvaluateDesk
from app.services import Services
from app.settings import PAGE_FILES
from app.store import StoreError
from evaluation.report_html import STYLE

_SCRIPTS = ("evaluate-form.js", "evaluate.js")
_TEMPLATE = (
    '<div class="evaluate"><p class="eval-alert" role="alert" hidden></p><p class="eval-live" aria-live="polite"></p>'
    '<div class="eval-form"></div><div class="eval-list"></div><div class="eval-detail"></div></div>'
)


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open."""
    desk = EvaluateDesk(services)
    threading.Thread(target=_attend, args=(services,), name="evaluations", daemon=True).start()

    def evaluate(message: Any) -> dict[str, Any]:
        return desk.answer(message)

    style = f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
    gr.HTML(style, apply_default_css=False, js_on_load=None, elem_id="evaluate-style")
    gr.HTML(
        value={},
        html_template=_TEMPLATE,
        js_on_load="\n".join((PAGE_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        apply_default_css=False,
        server_functions=[evaluate],
        elem_id="evaluate",
    )


def _attend(services: Services) -> None:
    try:
        services.jobs.watch()
    except StoreError as error:
        print(f"Evaluations cannot be looked after: {error}", flush=True)
