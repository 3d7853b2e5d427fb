"""The Train page in a real browser: start, watch, leave, come back, stop, resume, promote, talk to the result."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from app.jobs import processes
from app.jobs.job import ACTIVE
from app.jobs.queue import Queue
from app.store import open_store
from tests.browser.server import running_app
from tests.browser.talking import choose
from tests.training.tiny_run import make_assets

pytestmark = [pytest.mark.browser, pytest.mark.slow]
YAML = """
name: short
base: tiny-base
steps: 4000
batch: 2
micro_batch: 1
precision: float32
rollouts: {group_size: 2, max_tokens: 12, max_seconds: 1.0}
tuning: {kind: lora, rank: 4, alpha: 8}
evaluation: {every: 5, prompts: 2, samples: 1, spoken: 1, kept: 1}
checkpoints: {every: 5}
"""


@pytest.fixture(scope="module")
def train_address(tmp_path_factory):
    """An app of its own: its jobs are real processes, on a model of a few kilobytes."""
    folder = tmp_path_factory.mktemp("train")
    assets = make_assets(folder / "assets")
    try:
        with running_app(folder / "home", assets, folder / "log") as at:
            yield at
    finally:
        end_jobs(folder / "home")
    assert "Traceback" not in (folder / "log").read_text()


def end_jobs(home: Path) -> None:
    """Jobs outlive the app; those of a test that failed must not outlive the test."""
    store = open_store(home)
    for job in Queue(store).jobs(ACTIVE):
        if job.runner is not None:
            with contextlib.suppress(OSError):
                os.kill(job.runner, signal.SIGKILL)
        processes.end(job.id, 0.0)
    store.close()


@pytest.fixture
def tab(browser):
    contexts, problems = [], []

    def open_one(address: str, width: int = 1280, height: int = 900):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(240_000)  # most of what is waited for comes from processes that first load
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{address}/train")
        page.wait_for_selector(".train[data-ready]")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def state(page) -> str:
    return page.locator(".train-run").first.get_attribute("data-state")


def steps(page) -> int:
    return int(page.locator(".train-progress span").first.inner_text().split("step ")[1].split("/")[0])


def until(condition, seconds: float = 300.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError("It did not happen in time.")


def test_a_job_from_start_to_talk(train_address, tab):
    page = tab(train_address)
    assert page.get_by_text("Nothing trained yet.").is_visible()
    assert page.locator("#train-demo").is_visible()

    # What is wrong is told beside its field; nothing starts.
    page.locator("[data-path=steps] input").fill("none")
    page.locator("[data-path=steps] .train-wrong:not([hidden])").wait_for()
    page.locator("#train-start").click()
    page.locator(".train-alert").get_by_text("Nothing was started").wait_for()
    assert page.locator(".train-run").count() == 0

    page.get_by_text("As YAML or command line").click()
    page.locator(".train-yaml").fill(YAML)
    page.get_by_role("button", name="Use this YAML").click()
    page.wait_for_function("document.querySelector('[data-path=name] input').value === 'short'")
    page.wait_for_function("document.querySelector('.train-command').textContent.includes('steps=4000')")
    page.locator("#train-start").click()

    # The panels fill, and a zoom stays while they do.
    page.locator("[data-panel=reward] .scatterlayer .trace").first.wait_for()
    page.locator("[data-panel=level] .scatterlayer .trace").first.wait_for()
    plot = "document.querySelector('[data-panel=reward] .train-plot')"
    page.evaluate(f"window.Plotly.relayout({plot}, 'xaxis.range', [1, 3])")
    before = steps(page)
    until(lambda: steps(page) > before + 2)
    shown = page.evaluate(f"{plot}.layout.xaxis.range")
    assert [round(end) for end in shown] == [1, 3]

    # The tab is closed; training goes on.
    left_at = steps(page)
    page.close()
    page = tab(train_address)
    assert "#run=" not in page.url
    until(lambda: steps(page) > left_at)
    page.locator("[data-panel=reward] .scatterlayer .trace").first.wait_for()

    page.locator("[data-tab=log]").click()
    page.wait_for_function("document.querySelector('.train-log')?.textContent.includes('short')")
    page.locator("[data-tab=listen]").click()
    page.locator(".train-listen .train-play").first.wait_for()
    assert page.locator(".train-listen th").nth(1).inner_text() == "base"
    page.locator(".train-play").first.click()

    page.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: state(page) == "stopped")
    stopped_at = steps(page)
    page.get_by_text(f"Stopped after step {stopped_at}: on request.").wait_for()

    page.get_by_role("button", name="Resume").click()
    until(lambda: state(page) == "running")
    until(lambda: steps(page) > stopped_at)
    page.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: state(page) == "stopped")

    page.get_by_role("button", name="Promote").click()
    page.locator("dialog input").fill("promoted")
    page.locator("dialog button.train-primary").click()
    page.locator(".train-promotion[data-state=done]").wait_for()
    assert "promoted is in Talk and in the Arena" in page.locator(".train-promotion").inner_text()

    page.goto(train_address)
    page.wait_for_selector(".stage[data-state]")
    choose(page, "b", "promoted")
    page.locator("#question textarea").fill("what is one plus two")
    page.keyboard.press("Enter")
    page.locator(".answer[data-state=done]").nth(1).wait_for()


def test_nothing_scrolls_sideways_on_a_phone(train_address, tab):
    page = tab(train_address, 390, 844)
    page.locator(".train-card > summary").click()
    page.get_by_text("Advanced", exact=True).click()
    page.wait_for_timeout(500)
    page.get_by_text("As YAML or command line").click()
    page.wait_for_timeout(500)
    beyond = page.evaluate(
        """() => [...document.querySelectorAll('.train *')]
            .filter(node => node.offsetParent && !node.closest('.train-scroll, .train-tabs, svg'))
            .filter(node => node.getBoundingClientRect().right > innerWidth + 1)
            .map(node => node.outerHTML.slice(0, 120))"""
    )
    assert beyond == []
