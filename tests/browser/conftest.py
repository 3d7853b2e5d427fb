"""One app and one Chromium for all browser tests; a fresh tab, with a fake microphone, for each."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from tests.app.assets import make_tiny_assets
from tests.browser import chromium
from tests.browser.server import running_app, shipped_assets

FLAGS = (
    "--no-sandbox",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
)
#: Not the page's: what Chromium says about itself and about files that Gradio asks for and lives without.
HARMLESS = ("favicon", "manifest.json", "AudioContext was not allowed", "[DOM]", "Autofocus", "Waveform load error")


@pytest.fixture(scope="session")
def assets(tmp_path_factory) -> Path:
    return shipped_assets() or make_tiny_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="session")
def microphone(tmp_path_factory, assets) -> Path:
    """What the fake microphone hears again and again: a shipped example, else a voice-like hum."""
    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    examples = sorted((assets / "examples").glob("*.ogg"))
    if examples:
        samples, rate = soundfile.read(examples[0])
    else:
        rate = 48_000
        clock = np.arange(2 * rate) / rate
        buzz = sum(np.sin(2 * np.pi * 130 * k * clock) / k for k in range(1, 20))
        samples = 0.2 * buzz * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * clock))
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def app_log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("app") / "app.log"


@pytest.fixture(scope="session")
def address(tmp_path_factory, assets, app_log):
    with running_app(tmp_path_factory.mktemp("home"), assets, app_log) as at:
        yield at


# No longer than this folder's tests: while Playwright's session is open, its event loop counts as running in this
# thread, and whoever calls asyncio.run here is refused.
@pytest.fixture(scope="package")
def browser(microphone):
    from playwright.sync_api import sync_playwright

    path = chromium.find()
    if path is None:
        pytest.fail("No Chromium was found: run python -m tests.browser.chromium, or set WAVALIGN_CHROMIUM.")
    playwright = sync_playwright().start()
    try:
        browser = playwright.chromium.launch(
            executable_path=path, args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        )
        yield browser
    finally:
        with _ended_after(20.0):
            playwright.stop()


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """Kills Playwright's driver, and Chromium below it, if they have not ended by then.

    The driver ends once its input ends, which any child that was forked from here and is still there holds open.
    """
    timer = threading.Timer(seconds, _kill_driver)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _kill_driver() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "run-driver" in child.cmdline():
                for each in (*child.children(recursive=True), child):
                    each.kill()


@pytest.fixture(scope="package")
def profiles(browser) -> dict[str, list]:
    """Contexts that no test uses just now, by how they were made: a page's files are fetched once for all tests."""
    return defaultdict(list)


@pytest.fixture
def open_page(browser, profiles, address):
    """Opens tabs, each a visitor of its own; afterwards no tab may have seen an error, and none is left."""
    contexts, problems = [], []

    def open_one(width: int = 1280, height: int = 900, path: str = "", ready: str = ".stage[data-state]", **how):
        how |= {"viewport": {"width": width, "height": height}, "permissions": ["microphone"]}
        unused = profiles[repr(sorted(how.items()))]
        context = unused.pop() if unused else browser.new_context(**how)
        contexts.append((context, unused))
        page = context.new_page()
        context.clear_cookies()
        origin = {"origin": address, "storageTypes": "all"}  # what is cached of HTTP is not among it
        context.new_cdp_session(page).send("Storage.clearDataForOrigin", origin)
        page.set_default_timeout(45_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if _is_error(message) else None)
        page.goto(f"{address}/{path}")
        page.wait_for_selector(ready)
        page.wait_for_selector(".frame-device:not(:empty)")
        return page

    yield open_one
    for context, _ in contexts:
        for page in context.pages:
            assert "Traceback" not in page.content()
            page.close()
    assert problems == []
    for context, unused in contexts:
        unused.append(context)


@pytest.fixture
def page(open_page):
    return open_page()


def _is_error(message) -> bool:
    return message.type == "error" and not any(known in message.text for known in HARMLESS)
