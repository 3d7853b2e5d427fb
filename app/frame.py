"""What is around every page: the header, the look, the queue, and the launch."""

from __future__ import annotations

import html
import sys
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from app import access, health, logs
from app.access import Role
from app.callers import Caller, caller_of
from app.calls import Calls
from app.door import Door
from app.ending import Ending, end
from app.gate import Gate
from app.guard import guard
from app.keeping import keeping_of
from app.pages import PAGES, Page
from app.pages.arena import can_sign_in
from app.pushing import Pushing
from app.services import Services
from app.settings import NAME, PAGE_FILES, root_path
from app.theme import stylesheets, theme
from app.tidying import Tidying
from app.uploads import Shares, keep_swept

QUEUED = 200
"""Events that may wait for a handler: plots and archives of replies that are there."""
THREADS = 120
"""Who waits in line holds one."""
SESSIONS = 1000
"""Tabs whose conversations are kept; beyond, the one that was used longest ago is forgotten."""
_FAVICON = PAGE_FILES / "favicon.svg"
_HALF_MOON = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="8.5" fill="none" stroke="currentColor" '
    'stroke-width="2"/><path d="M12 3.5a8.5 8.5 0 0 1 0 17z" fill="currentColor"/></svg>'
)


class Workbench(gr.Blocks):
    """Where people can sign in, the framework brings the addresses for it, without a button of its own."""

    can_sign_in = False

    @property
    def expects_oauth(self) -> bool:
        return self.can_sign_in


def build(services: Services) -> gr.Blocks:
    """All pages as one app, not yet launched."""
    with Workbench(title=NAME, analytics_enabled=False, fill_width=True, delete_cache=(1800, 7200)) as demo:
        _page(services, PAGES[0])
    for page in PAGES[1:]:
        with demo.route(page.title, page.path):
            _page(services, page)
    demo.can_sign_in = can_sign_in(services)
    # Who waits for the models stands in our own line, which tells how many are before them; this bounds the rest.
    demo.queue(max_size=QUEUED, default_concurrency_limit=4)
    guard(demo, services.limiter)
    return demo


def launch(services: Services) -> None:
    """Serves the app until it is interrupted or told to end (SIGINT, SIGTERM); prints one line with the address.

    Then nothing new is begun, what is being answered is finished, and votes that were not pushed yet go to the Hub.
    """
    ending = Ending.on_signals()
    keeping = keeping_of(services.settings)
    pushing = Pushing(services)
    pushing.start()  # before anybody comes: an empty database is filled first
    if services.gpu is not None:  # what is in memory when the app is served is what every call finds there
        services.preload(logs.say).join()
    demo, address = serve(services)
    logs.say(f"{NAME} is at {address}", event="started", place=services.settings.place.kind)
    _tell_the_host(services, address)
    tidying = Tidying(lambda: services.voting.sweep()).start()
    if services.settings.preload and services.gpu is None:
        services.preload(logs.say)
    ending.wait()
    tidying.stop()
    end(services, pushing, keeping)
    demo.close(verbose=False)


def serve(services: Services) -> tuple[gr.Blocks, str]:
    """Starts serving in the background; returns the app and its address."""
    demo = build(services)
    own = {file for block in demo.blocks.values() for file in getattr(block, "keep_in_cache", ())}
    keep_swept(Path(gr.utils.get_upload_folder()), own)
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
        app_kwargs={
            "routes": health.routes(services, lambda: len(services.line)),
            "middleware": [_gate(services, demo)],
        },
        allowed_paths=[str(services.recordings.folder)],
        max_file_size=f"{services.settings.limits.upload_megabytes}mb",
        state_session_capacity=SESSIONS,
        max_threads=THREADS,
        prevent_thread_lock=True,
    )
    return demo, address


def _gate(services: Services, demo: gr.Blocks) -> Middleware:
    limits = services.settings.limits
    folder_bytes = round(limits.uploads_gigabytes * 1e9)
    uploads = Path(gr.utils.get_upload_folder())
    uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Middleware(
        Gate,
        callers=services.callers,
        limiter=services.limiter,
        recordings=services.recordings,
        uploads=uploads,
        upload_bytes=round(limits.upload_megabytes * 1e6),
        folder_bytes=folder_bytes,
        listeners=services.listeners,
        shares=Shares(services.raters.address, folder_bytes // 4),
        door=Door(services.callers, lambda page, caller: _header(page, "", caller, services)),
        calls=Calls.of(demo),
    )


def _tell_the_host(services: Services, address: str) -> None:
    """The link that makes a browser the host's: on a terminal, which nothing keeps, else in a file of the host's."""
    place, token = services.settings.place, services.made_token
    if place.is_space and not place.has_login and services.host_key is None:
        logs.say("Nobody can be the host here: set hf_oauth: true in the Space's README, or WAVALIGN_HOST_TOKEN.")
    if token is None:
        return
    link = f"{address.replace('//0.0.0.0', '//localhost').rstrip('/')}/host#{token}"
    if sys.stdout.isatty():
        print(f"To be its host, open {link}", flush=True)
        return
    file = services.settings.home / "host-link.txt"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(link + "\n", encoding="utf-8")
    logs.say(f"To be its host, open the link in {file}, or choose a token with WAVALIGN_HOST_TOKEN.")


def _page(services: Services, page: Page) -> None:
    gr.Navbar(visible=False)
    first = Caller(Role.HOST if services.callers.alone else Role.VISITOR)
    drawn = gr.HTML(_header(page.path, "", first, services), elem_id="header", apply_default_css=False, js_on_load=None)
    page.build(services)

    def header(request: gr.Request) -> str:
        return _header(page.path, services.device(), caller_of(request), services)

    gr.context.Context.root_block.load(
        header, outputs=drawn, show_progress="hidden", api_visibility="private", queue=False
    )


def _header(page: str, device: str, caller: Caller, services: Services) -> str:
    """Links to what the caller may open; ``page`` is the address of the page it stands on."""
    root = root_path()
    links = "".join(
        f'<a href="{root}/{each.path}"{" aria-current=page" if each.path == page else ""}>{html.escape(each.title)}</a>'
        for each in PAGES
        if access.PAGES[each.path] <= caller.role
    )
    door = "" if services.callers.alone and caller.role is Role.HOST else _door(page, caller)
    return (
        f'<header class="frame"><a class="frame-name" href="{root}/">{html.escape(NAME)}</a><nav>{links}</nav>'
        f'<span class="frame-device" title="What the models run on">{html.escape(device)}</span>{door}'
        '<button type="button" class="frame-theme" onclick="wavalignTheme()" aria-label="Light or dark"'
        f' title="Light or dark">{_HALF_MOON}</button></header>'
    )


def _door(page: str, caller: Caller) -> str:
    current = " aria-current=page" if page == "host" else ""
    name = html.escape(caller.account or "Host")
    return f'<a class="frame-door" href="{root_path()}/host"{current} title="Sign in as the host, or out">{name}</a>'
