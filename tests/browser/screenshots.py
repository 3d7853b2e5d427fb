"""Takes the pictures of docs/screenshots/ anew: ``make screenshots``, or ``python -m tests.browser.screenshots``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from app.pages import PAGES
from tests.app.assets import make_tiny_assets
from tests.browser import chromium
from tests.browser.server import REPOSITORY, running_app, shipped_assets

FOLDER = REPOSITORY / "docs" / "screenshots"
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        assets = shipped_assets() or make_tiny_assets(home / "assets")
        with running_app(home / "home", assets, home / "log") as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox", "--mute-audio"])
            for size, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                    _pictures(page, address, folder, f"{size}-{scheme}")
                    for other in PAGES[1:]:
                        _picture(
                            page, f"{address.rstrip('/')}/{other.path}", folder / f"{other.path}-{size}-{scheme}.png"
                        )
                    page.close()
            browser.close()


def _picture(page: Page, address: str, path: Path) -> None:
    """A page as a first visitor finds it."""
    page.goto(address)
    page.wait_for_selector(".frame-device:not(:empty)")
    page.wait_for_timeout(2500)
    page.screenshot(path=path)
    print(path)


def _pictures(page: Page, address: str, folder: Path, name: str) -> None:
    page.set_default_timeout(120_000)
    page.goto(address)
    page.wait_for_selector(".frame-device:not(:empty)")
    page.wait_for_timeout(500)
    page.screenshot(path=folder / f"empty-{name}.png")
    for turn in (1, 2):
        page.locator(".example").nth(turn - 1).click()
        page.locator(".exchange").nth(turn - 1).locator(".answer[data-state=done]").nth(1).wait_for()
        page.locator("#send").wait_for(state="visible")
    page.locator("#plot-b .js-plotly-plot").wait_for()
    page.wait_for_timeout(1500)
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.screenshot(path=folder / f"talk-{name}.png", full_page=True)
    print(folder / f"talk-{name}.png")


if __name__ == "__main__":
    main()
