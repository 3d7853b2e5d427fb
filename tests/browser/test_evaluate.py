"""The Evaluate page in a real browser: refuse, start, leave, come back, read, listen, download."""

from __future__ import annotations

import json

import pytest

from tests.browser.server import running_app
from tests.browser.test_train import end_jobs
from tests.evaluation.shipped import make_assets
from tests.tiny import make_tiny_adapter

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def evaluate_address(tmp_path_factory):
    """An app of its own: its evaluations are real processes, on a model of a few kilobytes."""
    folder = tmp_path_factory.mktemp("evaluate")
    assets = make_assets(folder / "assets")
    make_tiny_adapter(assets / "tuned", assets / "closedtalk-base")
    try:
        with running_app(folder / "home", assets, folder / "log") as at:
            yield at
    finally:
        end_jobs(folder / "home")
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture
def tab(browser):
    contexts, problems = [], []

    def open_one(address: str, width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{address}/evaluate")
        page.wait_for_selector(".evaluate[data-ready]")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def test_from_start_to_report(evaluate_address, tab, tmp_path):
    page = tab(evaluate_address)
    assert page.get_by_text("Nothing evaluated yet.").is_visible()
    page.locator("input[name=limit]").fill("many")
    page.locator("#evaluate-start").click()
    page.locator(".eval-alert").get_by_text("a number is needed").wait_for()
    assert page.locator(".eval-run").count() == 0

    page.locator("input[name=limit]").fill("")
    page.get_by_text("Sampling, recogniser, judge").click()
    page.locator(".eval-switch input").uncheck()
    page.locator("#evaluate-start").click()
    page.locator(".eval-run").wait_for()

    # The tab is closed; the evaluation goes on.
    page.close()
    page = tab(evaluate_address)
    page.locator(".eval-run[data-state=completed]").wait_for(timeout=180_000)
    page.locator(".ev-headline").wait_for()
    assert "tuned on closedtalk" in page.locator(".ev-headline").inner_text()
    assert page.locator(".ev-radar").is_visible()
    assert page.locator(".ev-forest").first.is_visible()

    if page.locator("[data-sound]").count():
        page.locator(".ev-lost").first.evaluate("node => node.closest('details').open = true")
        page.locator("[data-sound]").first.click()
        page.locator("[data-sound][data-url]").first.wait_for(state="attached")

    for what in ("HTML", "JSON"):
        with page.expect_download() as waiting:
            page.get_by_role("button", name=f"Download {what}").click()
        waiting.value.save_as(tmp_path / what)
    assert (tmp_path / "HTML").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "JSON").read_text())["plan"]["checkpoints"] == ["closedtalk-base", "tuned"]

    # A phone shows it all without scrolling sideways, tables aside.
    page = tab(evaluate_address, 390)
    page.locator(".ev-headline").wait_for()
    beyond = page.evaluate(
        """() => [...document.querySelectorAll('.evaluate *')]
            .filter(node => node.offsetParent && !node.closest('.ev-scroll, svg'))
            .filter(node => node.getBoundingClientRect().right > innerWidth + 1)
            .map(node => node.outerHTML.slice(0, 120))"""
    )
    assert beyond == []

    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    page.get_by_text("Nothing evaluated yet.").wait_for()
