"""Only an owner's login or the host's token makes a browser the host's; anything else is told so in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.app.access.asking import asked
from tests.app.space_server import TOKEN, Server
from tests.browser import chromium


@pytest.mark.parametrize(
    ("who", "comes_in"),
    [
        ({"name": "ann"}, True),
        ({"name": "ann", "secret": "another secret"}, False),
        ({"name": "ann", "secret": ""}, False),
        ({"name": "ann", "seconds": -1.0}, False),
        ({"name": "bob"}, False),
        ({"name": "Ann"}, False),
        ({"name": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": "write"}]}, True),
        ({"name": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": "read"}]}, False),
        ({"name": "cat", "orgs": [{"preferred_username": "others", "roleInOrg": "admin"}]}, False),
        ({"name": "cat", "orgs": [{"preferred_username": "team", "roleInOrg": "admin", "missingMFA": True}]}, False),
    ],
    ids=str,
)
def test_who_the_login_makes_a_host(space: Server, who: dict[str, Any], comes_in: bool) -> None:
    with space.signed_in(**who) as client:
        assert client.get("/train").status_code == (200 if comes_in else 403)


def test_a_login_service_that_is_away_is_a_sentence(space: Server) -> None:
    with space.client() as visitor:
        answer = visitor.get("/login/huggingface?_target_url=/arena")
    assert answer.status_code == 503
    assert "does not answer: try again in a minute" in answer.text


def test_coming_back_from_the_login_without_one_is_a_sentence(space: Server) -> None:
    with space.client() as visitor:
        for asked in ("error=access_denied&state=x", "code=c&state=forged", ""):
            answer = visitor.get(f"/login/callback?{asked}")
            assert answer.status_code in (302, 307, 400), asked
        assert "Nobody was signed in" in visitor.get("/login/callback?error=access_denied&state=x").text
    assert "could not sign in: OAuthError 'access_denied" in space.log.read_text()  # the host learns why


def test_the_token_makes_a_browser_the_hosts_until_it_leaves(space: Server) -> None:
    with space.client() as browser:
        wrong = browser.post("/host", data={"token": TOKEN[:-1] + "x"})
        assert wrong.status_code == 403
        assert "not this workbench" in wrong.text
        assert not wrong.cookies
        right = browser.post("/host", data={"token": TOKEN, "to": "train"})
        cookie = right.headers["set-cookie"]
        assert right.status_code == 303
        assert "HttpOnly" in cookie
        assert TOKEN not in cookie
        kept = cookie.split(";")[0]
        assert browser.get("/train", headers={"cookie": kept}).status_code == 200
        assert (
            browser.get("/train", headers={"cookie": kept[:-1] + ("0" if kept[-1] != "0" else "1")}).status_code == 403
        )
        assert "Max-Age=0" in browser.post("/host/leave", headers={"cookie": kept}).headers["set-cookie"]
    assert TOKEN not in space.log.read_text()


def test_tokens_cannot_be_tried_without_end(space: Server) -> None:
    with space.client(address="198.51.100.9") as thief:
        tries = [thief.post("/host", data={"token": f"guess {number}"}).status_code for number in range(12)]
    assert tries == [403] * 10 + [429] * 2


def test_a_forged_account_of_a_rater_is_nobody(space: Server, config: dict[str, Any]) -> None:
    with space.signed_in("bob", secret="guessed") as forger:
        assert "token" in asked(forger, config, "arena", "arena", {"do": "hello"}).json()


def test_the_printed_link_makes_a_browser_the_hosts_and_it_stays_so(space: Server) -> None:
    """The token is behind #, which no server sees; pages offer what one may open."""
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        page = chrome.new_page()
        page.set_default_timeout(60_000)
        sent = []
        page.on("request", lambda request: sent.append(request.url))
        page.goto(f"{space.address}/train")
        page.get_by_text("This page is the host's.").wait_for()
        assert page.locator(".frame nav a").all_inner_texts() == ["Talk", "Arena", "Leaderboard"]
        page.goto(f"{space.address}/host#{TOKEN}")
        page.locator(".frame nav a", has_text="Train").wait_for()
        assert not [url for url in sent if TOKEN in url.split("#")[0]]
        page.goto(f"{space.address}/host")
        page.get_by_role("button", name="Sign out").click()
        page.locator(".frame-door", has_text="Host").wait_for()
        page.goto(f"{space.address}/train")
        page.get_by_text("This page is the host's.").wait_for()
        chrome.close()
