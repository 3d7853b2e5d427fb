"""The Arena page: one question, two replies, nobody knows whose, one vote."""

from __future__ import annotations

import html
import importlib.util
from typing import Any

import gradio as gr

from app.components.stage import examples_strip
from app.examples import load_examples
from app.pages.arena_desk import Desk
from app.pages.arena_handlers import Composer, Handlers
from app.services import Services
from app.settings import PAGE_FILES, root_path

_TEMPLATE = (
    '<div class="arena" data-step="loading"><p class="arena-live" aria-live="polite"></p>'
    '<p class="arena-alert" role="alert" hidden></p><div class="arena-panel"></div>'
    '<p class="arena-status" hidden></p></div>'
)
_SCRIPTS = (
    "ab-player.js",
    "arena-common.js",
    "arena-first.js",
    "arena-battle.js",
    "arena-after.js",
    "arena-mine.js",
    "arena.js",
)
_SIGN_IN = (
    f'<p><a href="{root_path()}/login/huggingface?_target_url=/arena">Sign in</a> '
    "to keep your votes on every device.</p>"
)
_FOOT = '<div class="arena-foot"></div><div class="arena-drawer"></div>'


def build(services: Services) -> None:
    """Draws the page into the Blocks that is open."""
    examples = load_examples(services.settings.assets)
    desk = Desk(services)

    def arena(message: Any, profile: gr.OAuthProfile | None) -> dict[str, Any]:
        return desk.answer(message, profile.username if profile else None)

    if can_sign_in(services):
        _sign_in()
    # The ticket is filled in by the page's script at every request.
    ticket = gr.Textbox(visible="hidden", elem_id="arena-ticket")
    stage = gr.HTML(
        value={},
        html_template=_TEMPLATE,
        js_on_load="\n".join((PAGE_FILES / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        apply_default_css=False,
        server_functions=[arena],
        elem_id="arena",
    )
    with gr.Column(elem_id="arena-composer"):
        gr.HTML(
            '<p class="arena-go-on">Or go on talking: both sides hear it.</p>',
            apply_default_css=False,
            js_on_load=None,
            elem_id="arena-go-on",
        )
        with gr.Row(elem_id="arena-input", equal_height=False):
            recording = gr.Audio(
                sources=["microphone", "upload"],
                type="filepath",
                label="Speak, or drop a file",
                show_label=False,
                editable=False,
                buttons=[],
                elem_id="recording",
                min_width=260,
                scale=2,
                waveform_options=gr.WaveformOptions(waveform_color="#94a3ab", waveform_progress_color="#0f766e"),
            )
            with gr.Column(scale=3, min_width=280):
                text = gr.Textbox(
                    placeholder="Type a question, Enter sends it",
                    show_label=False,
                    label="Question",
                    container=False,
                    lines=1,
                    max_lines=4,
                    elem_id="question",
                    submit_btn=False,
                )
                send = gr.Button("Ask both", variant="primary", elem_id="send", min_width=88)
        strip = examples_strip(examples)
    gr.HTML(_FOOT, apply_default_css=False, js_on_load=None, elem_id="arena-foot")

    handlers = Handlers(services, desk, Composer(stage, recording, text), examples)
    answering = {
        "outputs": [stage, recording, text],
        "concurrency_limit": None,  # the line in front of the models is ours
        "trigger_mode": "once",
        "show_progress": "hidden",
        "api_visibility": "private",
    }
    ticketed = "(ticket, ...rest) => [window.wavalignTicket(), ...rest]"
    for event in (
        send.click(handlers.send, [ticket, recording, text], js=ticketed, **answering),
        text.submit(handlers.send_text, [ticket, text], js=ticketed, **answering),
        recording.stop_recording(handlers.recorded, [ticket, recording], js=ticketed, **answering),
        strip.example(handlers.example, [ticket], js=ticketed, **answering),
    ):
        # Too many wait, or the connection is gone: Gradio says so, and the page must not wait on.
        event.failure(None, None, None, js="() => window.wavalignUnasked()")


def _sign_in() -> None:
    place = gr.HTML(_SIGN_IN, apply_default_css=False, js_on_load=None, elem_id="arena-login")

    def signed(profile: gr.OAuthProfile | None) -> str:
        if profile is None:
            return _SIGN_IN
        return f"<p>Signed in as {html.escape(profile.username)}: your votes are kept with your account.</p>"

    gr.context.Context.root_block.load(
        signed, None, place, show_progress="hidden", api_visibility="private", queue=False
    )


def can_sign_in(services: Services) -> bool:
    """Only a Space with ``hf_oauth`` has anybody to sign in to; its image brings the library for it."""
    has_login = services.settings.place.has_login and gr.utils.get_space() is not None
    return has_login and importlib.util.find_spec("authlib") is not None
