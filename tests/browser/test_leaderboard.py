"""The Leaderboard page in a real browser, before the first vote."""

from __future__ import annotations

import pytest

from tests.browser.server import running_app

pytestmark = pytest.mark.browser


@pytest.fixture
def address(tmp_path, assets):
    """An app of its own: other tests vote."""
    with running_app(tmp_path / "home", assets, tmp_path / "app.log") as at:
        yield at.rstrip("/")


def test_first_visit_says_how_many_votes_are_needed(open_page, address) -> None:
    page = open_page(390, 844)
    page.goto(f"{address}/leaderboard")
    page.get_by_text("No votes yet.").wait_for()
    assert "after about 37 votes" in page.locator(".board-head").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("link", name="Go to the Arena").click()
    page.wait_for_url("**/arena")
