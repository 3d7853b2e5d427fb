"""Every handler and every address of the app has a declared role; what has none is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.routes import App

from app import access
from app.access import Role, UndeclaredError
from app.frame import build
from app.gate import NOT_HERE
from app.guard import act_behind, guard
from app.services import Services
from app.settings import Settings
from tests.app.access.asking import asked
from tests.app.space_server import Server


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> gr.Blocks:
    return build(Services(Settings(tmp_path_factory.mktemp("built"), assets)))


def test_every_handler_has_a_declared_role(built: gr.Blocks) -> None:
    events = [event for event in built.fns.values() if event.fn is not None]
    assert len(events) > 30
    for event in events:
        assert act_behind(event.fn).role >= access.PAGES[event.page], event.name


def test_a_block_that_a_session_makes_anew_keeps_its_functions_guarded(built: gr.Blocks) -> None:
    [block] = [each for each in built.blocks.values() if each.elem_id == "train"]
    again = gr.HTML(**{**block.constructor_args, "render": False})
    assert act_behind(again.train).role is Role.HOST


def test_every_declared_handler_exists(built: gr.Blocks) -> None:
    there = {(event.page, event.name) for event in built.fns.values() if event.fn is not None}
    there |= {
        (block.page, name)
        for block in built.blocks.values()
        for name in access.HANDLERS[block.page]
        if hasattr(block, name)
    }
    declared = {(page, name) for page, names in access.HANDLERS.items() for name in names}
    assert declared - there == {("arena", "signed")}  # only where there is a login


def test_an_app_with_an_undeclared_handler_does_not_start() -> None:
    with gr.Blocks() as demo:
        gr.Button().click(lambda: None)
    with pytest.raises(UndeclaredError, match="Name it in app"):
        guard(demo, None)
    with gr.Blocks() as demo:
        gr.HTML(server_functions=[_unnamed])
    with pytest.raises(UndeclaredError, match="_unnamed"):
        guard(demo, None)


def _unnamed(message: Any) -> None: ...


def test_only_functions_that_pages_name_can_be_called(space: Server, config: dict[str, Any]) -> None:
    with space.host() as host:
        for name in ("postprocess", "__init__", "get_config", "unload"):
            assert asked(host, config, "train", name, {}).status_code == 404


def test_every_address_that_is_not_declared_is_not_there(space: Server, built: gr.Blocks) -> None:
    closed = set()
    with space.client() as visitor, space.host() as host:
        for route in App.create_app(built).routes:
            path = re.sub(r"\{[^}]*\}", "x", getattr(route, "path", "")) or "/nothing"
            for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}:
                if access.role_of_route(method, path) is None:
                    closed.add(path)
                    for client in (visitor, host):
                        answer = client.request(method, path)
                        assert (answer.status_code, answer.text) == (404, NOT_HERE), (method, path)
    for known in (
        "/monitoring",
        "/gradio_api/proxy=x",
        "/gradio_api/vibe-edit",
        "/gradio_api/process_recording",
        "/gradio_api/stream/x",
        "/gradio_api/deep_link",
        "/gradio_api/token",
        "/gradio_api/call/x",
        "/docs",
    ):
        assert known in closed or access.role_of_route("GET", known) is None
