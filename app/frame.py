"""What is around every page: the header, the look, the queue, and the launch."""

from __future__ import annotations

import html
import os

import gradio as gr

from app import health, logs
from app.ending import Ending, end
from app.pages import PAGES, Page
from app.pushing import Pushing
from app.services import Services
from app.settings import NAME, PAGE_FILES
from app.theme import stylesheets, theme

_FAVICON = PAGE_FILES / "favicon.svg"
_HALF_MOON = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="8.5" fill="none" stroke="currentColor" '
    'stroke-width="2"/><path d="M12 3.5a8.5 8.5 0 0 1 0 17z" fill="currentColor"/></svg>'
)


def build(services: Services) -> gr.Blocks:
    """All pages as one app, not yet launched."""
    with gr.Blocks(title=NAME, analytics_enabled=False, fill_width=True, delete_cache=(1800, 7200)) as demo:
        _page(services, PAGES[0])
    for page in PAGES[1:]:
        with demo.route(page.title, page.path):
            _page(services, page)
    demo.queue(max_size=services.settings.limits.waiting, default_concurrency_limit=4)
    return demo


def launch(services: Services) -> None:
    """Serves the app until it is interrupted or told to end (SIGINT, SIGTERM); prints one line with the address.

    Then nothing new is begun, what is being answered is finished, and votes that were not pushed yet go to the Hub.
    """
    ending = Ending.on_signals()
    pushing = Pushing(services)
    pushing.start()  # before anybody comes: an empty database is filled first
    if services.gpu is not None:  # what is in memory when the app is served is what every call finds there
        services.preload(logs.say).join()
    demo, address = serve(services)
    logs.say(f"{NAME} is at {address}", event="started", place=services.settings.place.kind)
    if services.settings.preload and services.gpu is None:
        services.preload(logs.say)
    ending.wait()
    end(services, pushing)
    demo.close(verbose=False)


def serve(services: Services) -> tuple[gr.Blocks, str]:
    """Starts serving in the background; returns the app and its address."""
    demo = build(services)
    _, address, _ = demo.launch(
        server_name=services.settings.place.listen,
        server_port=services.settings.port,
        theme=theme(),
        css_paths=stylesheets(),
        head=f"<script>{(PAGE_FILES / 'frame.js').read_text(encoding='utf-8')}</script>",
        favicon_path=str(_FAVICON),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        share=False,
        quiet=True,
        show_error=False,
        app_kwargs={"routes": health.routes(services, lambda: len(demo._queue))},
        allowed_paths=[str(services.recordings.folder)],
        max_file_size=f"{services.settings.limits.upload_megabytes}mb",
        prevent_thread_lock=True,
    )
    return demo, address


def _page(services: Services, page: Page) -> None:
    gr.Navbar(visible=False)
    device = gr.HTML(_header(page, ""), elem_id="header", apply_default_css=False, js_on_load=None)
    page.build(services)
    gr.context.Context.root_block.load(
        lambda: _header(page, services.device()), outputs=device, show_progress="hidden", api_visibility="private"
    )


def _header(page: Page, device: str) -> str:
    root = os.environ.get("GRADIO_ROOT_PATH", "").rstrip("/")
    links = "".join(
        f'<a href="{root}/{each.path}"{" aria-current=page" if each is page else ""}>{html.escape(each.title)}</a>'
        for each in PAGES
    )
    return (
        f'<header class="frame"><a class="frame-name" href="{root}/">{html.escape(NAME)}</a><nav>{links}</nav>'
        f'<span class="frame-device" title="What the models run on">{html.escape(device)}</span>'
        '<button type="button" class="frame-theme" onclick="wavalignTheme()" aria-label="Light or dark"'
        f' title="Light or dark">{_HALF_MOON}</button></header>'
    )
