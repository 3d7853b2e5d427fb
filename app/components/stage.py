"""The two custom pieces of the Talk page: the conversation, and the strip of examples."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import gradio as gr

from app import view
from app.examples import Example
from app.settings import PAGE_FILES
from wavalign.closedtalk.understanding import describe_world

if TYPE_CHECKING:
    from app.pages.talk_handlers import Session


def make_stage(session: Session) -> gr.HTML:
    """Draws what ``app.view.stage`` returns; see assets/app/stage.js."""
    script = "\n".join((PAGE_FILES / name).read_text(encoding="utf-8") for name in ("player.js", "stage.js"))
    value = view.stage(session.key, session.conversation) if session.conversation else {"conversation": session.key}
    return gr.HTML(
        value=value,
        html_template=_safe(
            '<div class="stage" data-state="empty"><div class="stage-scroll" tabindex="0" aria-label="Conversation">'
            f'{_empty_state()}</div><p class="stage-alert" role="alert" hidden></p>'
            '<p class="stage-status" role="status" hidden></p></div>'
        ),
        js_on_load=script,
        apply_default_css=False,
        elem_id="stage",
    )


def examples_strip(examples: tuple[Example, ...]) -> gr.HTML:
    """One press asks; each press triggers ``example`` with the index."""
    buttons = "".join(
        f'<button type="button" class="example" data-example="{index}" title="Ask this">'
        f"{_SPEAKER if each.audio else ''}{html.escape(view.written(each.text, ''))}</button>"
        for index, each in enumerate(examples)
    )
    return gr.HTML(
        html_template=_safe(f'<div class="examples" aria-label="Examples">{buttons}</div>'),
        js_on_load="""
            element.addEventListener("click", (event) => {
              const pressed = event.target.closest("[data-example]");
              if (pressed) trigger("example", { index: Number(pressed.dataset.example) });
            });
        """,
        apply_default_css=False,
        elem_id="examples",
    )


_SPEAKER = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9.5v5h3.5L12 19V5L7.500 9.500zM15 8.500a5 5 0 0 1 0 7'
    'M17.500 5.500a9 9 0 0 1 0 13" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" '
    'stroke-linejoin="round"/></svg>'
)


def _empty_state() -> str:
    topics = "".join(
        f'<li title="{html.escape(questions[0])}">{html.escape(title)}</li>' for title, questions in describe_world()
    )
    return (
        '<div class="stage-empty"><h2>Speak, or pick an example.</h2>'
        "<p>Two checkpoints hear the same question and answer aloud, side by side. The embedded model lives in a small "
        "world. Ask it something from there, then go on: “and seven plus two?”, “now in a sad voice”.</p>"
        f'<details open><summary>What it can talk about</summary><ul class="topics">{topics}</ul></details></div>'
    )


def _safe(template: str) -> str:
    """Gradio reads templates as JavaScript template strings and as Handlebars: nothing of ours may be either."""
    return template.replace("`", "&#96;").replace("${", "&#36;{").replace("{{", "&#123;&#123;").replace("\\", "&#92;")
