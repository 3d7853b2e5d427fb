"""What several tests do on the Talk page."""

from __future__ import annotations


def choose(page, side: str, name: str) -> None:
    """Picks a checkpoint; returns once the conversation began anew."""
    before = page.locator(".stage").get_attribute("data-conversation")
    page.locator(f".side-{side} input").click()
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("before => document.querySelector('.stage').dataset.conversation !== before", arg=before)
