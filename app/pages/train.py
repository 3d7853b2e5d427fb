"""The Train page: start a job, watch it live, listen to it, compare runs, promote the result."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import gradio as gr
import plotly

from app.pages.train_desk import TrainDesk
from app.services import Services
from app.settings import PAGE_FILES
from app.store import StoreError

_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
_SCRIPTS = ("train-common.js", "train-form.js", "train-runs.js", "train-panels.js", "train-detail.js", "train.js")
_TEMPLATE = (
    '<div class="train"><p class="train-live" aria-live="polite"></p><p class="train-alert" role="alert" hidden></p>'
    '<div class="train-form"></div><div class="train-runs"></div><div class="train-detail"></div></div>'
)


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open, and begins to look after jobs: those of before are found again."""
    desk = TrainDesk(services)
    threading.Thread(target=_attend, args=(services,), name="jobs", daemon=True).start()

    def train(message: Any) -> dict[str, Any]:
        return desk.answer(message)

    # The script that draws plots comes with the Python package, so it is here without a network.
    gr.set_static_paths([_PLOTLY])
    address = f"{os.environ.get('GRADIO_ROOT_PATH', '').rstrip('/')}/gradio_api/file={_PLOTLY}"
    scripts = "\n".join((PAGE_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    gr.HTML(
        value={},
        html_template=_TEMPLATE,
        js_on_load=f"const PLOTLY = {address!r};\n{scripts}",
        apply_default_css=False,
        server_functions=[train],
        elem_id="train",
    )


def _attend(services: Services) -> None:
    try:
        services.jobs.watch()
    except StoreError as error:
        print(f"Jobs cannot be looked after: {error}", flush=True)
