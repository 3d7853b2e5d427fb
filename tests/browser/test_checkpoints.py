"""The Checkpoints page in a real browser: add a folder and a service, talk to them, unload, remove."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.app.assets import make_tiny_assets
from tests.browser.server import running_app
from tests.browser.talking import choose
from tests.models.chat_service import b64, chat_service, tone, wav, whole
from tests.tiny import make_tiny_adapter, make_tiny_checkpoint

pytestmark = [pytest.mark.browser, pytest.mark.slow]
KEY = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Path:
    """Assets, and beside them a base and an adapter on it that nobody listed yet."""
    folder = tmp_path_factory.mktemp("points")
    make_tiny_assets(folder / "assets")
    make_tiny_checkpoint(folder / "elsewhere" / "second", seed=5)
    make_tiny_adapter(folder / "elsewhere" / "second-tuned", folder / "elsewhere" / "second")
    return folder


@pytest.fixture(scope="module")
def service():
    sound = b64(wav(tone(seconds=1.0)))
    with chat_service(lambda number, body: whole({"content": "It is four.", "audio": {"data": sound}})) as at:
        yield at


@pytest.fixture(scope="module")
def points_address(places):
    os.environ["POINTS_API_KEY"] = KEY
    try:
        with running_app(places / "home", places / "assets", places / "log") as at:
            yield at
    finally:
        del os.environ["POINTS_API_KEY"]
    log = (places / "log").read_text()
    assert "Traceback" not in log
    assert KEY not in log


@pytest.fixture
def tab(browser):
    contexts, problems = [], []

    def open_one(address: str, path: str = "checkpoints", ready: str = ".points[data-ready]", width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{address}/{path}")
        page.wait_for_selector(ready)
        return page

    yield open_one
    for context in contexts:
        for page in context.pages:
            assert KEY not in page.content()
        context.close()
    assert problems == []


def row(page, name: str):
    return page.locator(f'.points-row[data-name="{name}"]')


def add(page, kind: str, **fields: str) -> None:
    page.get_by_role("radio", name="A service" if kind == "remote" else "From the Hub or a folder").check()
    form = page.locator(f'.points-form[data-kind="{kind}"]')
    for name, value in fields.items():
        form.locator(f'[name="{name}"]').fill(value)
    form.get_by_role("button", name="Look at it").click()
    form.locator(".points-facts").wait_for()
    form.locator(".points-add-it").click()


def test_a_folder_is_added_asked_unloaded_and_removed(points_address, places, tab):
    page = tab(points_address)
    form = page.locator('.points-form[data-kind="local"]')

    # What is wrong is said where it was asked; nothing is added.
    form.locator("[name=source]").fill("/no/such/folder")
    form.get_by_role("button", name="Look at it").click()
    form.get_by_text("There is no folder /no/such/folder.").wait_for()
    form.locator("[name=source]").fill(str(places / "assets" / "closedtalk-recogniser"))
    form.get_by_role("button", name="Look at it").click()
    form.get_by_text("is not a checkpoint of a layout").wait_for()

    add(page, "local", source=str(places / "elsewhere" / "second"), adapter=str(places / "elsewhere" / "second-tuned"))
    row(page, "second-tuned").wait_for()
    assert row(page, "second").locator(".points-state").inner_text() == "not loaded"
    row(page, "second-tuned").get_by_role("button", name="Load").click()
    page.wait_for_selector('.points-row[data-name="second-tuned"][data-state="loaded"]')
    assert "with 1 adapter" in row(page, "second").inner_text()

    talk = tab(points_address, "", ".stage[data-state]")
    choose(talk, "a", "second-tuned")
    talk.locator("#question textarea").fill("what is two plus two")
    talk.keyboard.press("Enter")
    talk.wait_for_selector('.stage[data-state="ready"] audio, .stage[data-state="ready"] .wave', state="attached")
    assert talk.locator(".stage").inner_text().count("second-tuned") >= 1

    row(page, "second").get_by_role("button", name="Unload").click()
    page.wait_for_selector('.points-row[data-name="second"][data-state="not loaded"]')
    row(page, "second").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    page.get_by_text('"second-tuned" stands on "second": remove that first.').wait_for()
    for name in ("second-tuned", "second"):
        row(page, name).get_by_role("button", name="Remove").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        row(page, name).wait_for(state="detached")
    assert (places / "elsewhere" / "second" / "model.safetensors").is_file()
    assert row(page, "closedtalk-base").get_by_role("button", name="Remove").count() == 0


def test_a_service_is_added_and_answers_beside_a_model_that_runs_here(points_address, service, tab, places):
    page = tab(points_address)
    add(page, "remote", url=service.url, model="far-omni", name="far", key_env="POINTS_API_KEY")
    row(page, "far").wait_for()
    row(page, "far").get_by_role("button", name="Details").click()
    page.get_by_text("It does not take part in the Arena.").wait_for()

    talk = tab(points_address, "", ".stage[data-state]")
    choose(talk, "b", "far (remote)")
    talk.locator("#question textarea").fill("What is two plus two?")
    talk.keyboard.press("Enter")
    talk.get_by_text("It is four.").wait_for()
    talk.wait_for_selector('.stage[data-state="ready"]')
    assert service.requests[-1]["messages"][-1]["content"] == "What is two plus two?"
    assert service.keys[-1] == f"Bearer {KEY}"
    assert KEY not in (places / "home" / "checkpoints.yaml").read_text()

    row(page, "far").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    row(page, "far").wait_for(state="detached")


def test_on_a_phone_nothing_is_wider_than_the_page(points_address, tab):
    page = tab(points_address, width=390)
    assert page.evaluate("document.documentElement.scrollWidth <= 390")
    page.get_by_role("radio", name="A service").check()
    assert page.evaluate("document.documentElement.scrollWidth <= 390")
