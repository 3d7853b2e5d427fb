"""The Preferences page: the votes as a dataset, to browse, to listen to, and to take along."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages import preference_model
from app.pages.arena_desk import Desk
from app.pages.preferences_desk import PreferencesDesk
from app.services import Services
from app.settings import PAGE_FILES

_SCRIPTS = ("ab-player.js", "arena-common.js", "arena-mine.js", "preferences.js")
_TEMPLATE = (
    '<div class="arena prefs"><p class="arena-live" aria-live="polite"></p><p class="arena-alert" role="alert" hidden>'
    '</p><div class="arena-panel"></div><div class="arena-foot"></div><div class="arena-drawer"></div></div>'
)


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open."""
    own, all_votes = Desk(services), PreferencesDesk(services)

    def arena(message: Any, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        return own.answer(message, profile.username if profile else None)

    def preferences(message: Any) -> dict[str, Any]:
        return all_votes.answer(message)

    gr.HTML(
        value={},
        html_template=_TEMPLATE,
        js_on_load="\n".join((PAGE_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        apply_default_css=False,
        server_functions=[arena, preferences],
        elem_id="preferences",
    )
    preference_model.build(services)
