"""A short WavAlign job on the embedded model, in a real browser: from its start to talking to what it made."""

from __future__ import annotations

import pytest

from tests.browser.server import SHIPPED, running_app
from tests.browser.talking import choose
from tests.browser.test_train import end_jobs, state, steps, tab, until

__all__ = ["tab"]
pytestmark = [pytest.mark.browser, pytest.mark.long]
YAML = """
name: twenty
base: closedtalk-base
rewards: {weights: {answer: 1.0}}
method: {kind: hybrid, preference: {scope: text}, mix: {kind: wavalign}}
steps: 20
batch: 4
evaluation: {every: 5, prompts: 4, samples: 2, spoken: 2, kept: 1}
checkpoints: {every: 5}
"""


def test_twenty_steps_on_the_embedded_model(tmp_path, tab):
    home = tmp_path / "home"
    with running_app(home, SHIPPED, tmp_path / "log") as address:
        try:
            train(address, tab)
        finally:
            end_jobs(home)
    assert "Traceback" not in (tmp_path / "log").read_text()


def train(address: str, tab) -> None:
    page = tab(address)
    page.get_by_text("As YAML or command line").click()
    page.locator(".train-yaml").fill(YAML)
    page.get_by_role("button", name="Use this YAML").click()
    page.wait_for_function("document.querySelector('[data-path=name] input').value === 'twenty'")
    page.locator("#train-start").click()
    for panel in ("reward", "mix", "losses"):
        page.locator(f"[data-panel={panel}] .scatterlayer .trace").first.wait_for()
    page.close()

    page = tab(address)
    until(lambda: steps(page) >= 4)
    page.get_by_role("button", name="Stop", exact=True).click()
    until(lambda: state(page) == "stopped")
    stopped_at = steps(page)
    assert 4 <= stopped_at < 20
    page.get_by_role("button", name="Resume").click()
    until(lambda: state(page) == "completed")
    assert steps(page) == 20
    for panel in ("semantic", "acoustic"):
        page.locator(f"[data-panel={panel}] .scatterlayer .trace").first.wait_for()

    page.get_by_role("button", name="Promote").click()
    page.locator("dialog input").fill("twenty-v1")
    page.locator("dialog button.train-primary").click()
    page.locator(".train-promotion[data-state=done]").wait_for()

    page.goto(address)
    page.wait_for_selector(".stage[data-state]")
    choose(page, "b", "twenty-v1")
    page.locator("#question textarea").fill("what is one plus two")
    page.keyboard.press("Enter")
    page.locator(".answer[data-state=done]").nth(1).wait_for()
