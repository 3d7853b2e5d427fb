"""The Leaderboard page in a real browser, before the first vote."""

from __future__ import annotations

import pytest

from app.frame import serve
from app.services import Services
from app.settings import Settings

pytestmark = pytest.mark.browser


@pytest.fixture
def address(tmp_path, assets):
    """An app of its own: other tests vote. In this process, for it answers nothing and starts the sooner."""
    services = Services(Settings(tmp_path / "home", assets, preload=False))
    demo, address = serve(services)
    yield address.rstrip("/")
    demo.close()


def test_first_visit_says_how_many_votes_are_needed(open_page, address) -> None:
    page = open_page(390, 844, path="leaderboard", ready=".board-head")
    page.get_by_text("No votes yet.").wait_for()
    assert "after about 37 votes" in page.locator(".board-head").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Go to the Arena").click()
    page.wait_for_url("**/arena")
