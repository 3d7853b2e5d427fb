"""Closing the tab in mid-reply ends the generation on the server."""

from __future__ import annotations

import time

import pytest

from app.frame import serve
from app.services import Services
from app.settings import Settings
from tests.app.assets import make_tiny_assets
from wavalign.models.registry import Registry

pytestmark = pytest.mark.browser
STEP_SECONDS = 0.15


class Slow:
    """A real model that tells how far it came. Every step takes a while, and once a reply sounds it goes on without
    anything new until somebody ends it."""

    def __init__(self, model) -> None:
        self.model, self.steps, self.ended = model, 0, False

    def __getattr__(self, name):
        return getattr(self.model, name)

    def stream_many(self, requests, stop=None):
        stream, sounds, nothing_new = self.model.stream_many(requests, stop), False, [None] * len(requests)
        try:
            while True:
                held = sounds and not (stop and stop.is_set())
                try:
                    chunks = nothing_new if held else next(stream)
                except StopIteration as end:
                    return end.value
                sounds = sounds or any(
                    chunk and chunk.waveform is not None and len(chunk.waveform.samples) for chunk in chunks
                )
                self.steps += 1
                time.sleep(STEP_SECONDS)
                yield chunks
        finally:
            stream.close()
            self.ended = True


class SlowRegistry(Registry):
    def load(self, names):
        self.slow = Slow(super().load(names))
        return self.slow


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    return SlowRegistry(make_tiny_assets(tmp_path_factory.mktemp("slow")))


@pytest.fixture(scope="module")
def slow_address(tmp_path_factory, registry):
    settings = Settings(tmp_path_factory.mktemp("home"), registry.places[0], preload=False)
    demo, address = serve(Services(settings, registry))
    yield address
    demo.close()


def until(condition, seconds: float = 120.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def begun(browser, address):
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector(".frame-device:not(:empty)")
    page.locator("#question textarea").fill("What is the opposite of hot?")
    page.keyboard.press("Enter")
    page.locator(".answer.live .player-button:not([disabled])").first.wait_for()
    return page


def test_closing_the_tab_ends_the_generation(browser, slow_address, registry):
    page = begun(browser, slow_address)
    slow = registry.slow
    assert not slow.ended
    page.close()
    assert until(lambda: slow.ended), "the generation went on"
    after = slow.steps
    time.sleep(4 * STEP_SECONDS)
    assert slow.steps == after


def test_stop_ends_the_reply_and_keeps_what_was_said(browser, slow_address, registry):
    page = begun(browser, slow_address)
    registry.slow.ended = False
    page.locator("#stop").click()
    page.locator(".answer[data-state=done]").nth(1).wait_for()
    assert page.get_by_text("You stopped it here.").first.is_visible()
    page.close()
