"""What is the host's answers nobody else, and a visitor is told nothing of it or of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import access
from app.access import Role
from app.guard import HOSTS_ONLY
from tests.app.access.asking import asked, called
from tests.app.space_server import CLIENT_SECRET, TOKEN, Server
from tests.browser.server import REPOSITORY

HOST_PAGES = sorted(page for page, role in access.PAGES.items() if role is Role.HOST)


def test_no_event_of_a_host_page_answers_a_visitor(space: Server, config: dict[str, Any]) -> None:
    walked = 0
    with space.client() as visitor:
        for page in HOST_PAGES:
            for index in config["page"][page]["dependencies"]:
                event = next(each for each in config["dependencies"] if each["id"] == index)
                if not event["backend_fn"]:
                    continue
                data = [None] * len(event["inputs"])
                assert HOSTS_ONLY in called(visitor, index, data, f"walk{index}"), event["api_name"]
                ran = visitor.post("/gradio_api/run/predict", json={"fn_index": index, "data": data})
                assert ran.status_code in (404, 500)  # not by this way, or refused by the guard
                assert '"data"' not in ran.text
                walked += 1
    assert walked >= 8


ACTS = [
    ("train", "train", {"do": "demo"}),
    ("train", "train", {"do": "hello"}),
    ("evaluate", "evaluate", {"do": "hello"}),
    ("points", "checkpoints", {"do": "watch"}),
    ("points", "checkpoints", {"do": "remove", "name": "closedtalk-tuned"}),
    ("preferences", "preferences", {"do": "browse"}),
    ("preferences", "arena", {"do": "hello"}),
]


def test_no_function_of_a_host_page_answers_a_visitor_or_another_account(space: Server, config: dict[str, Any]) -> None:
    for client in (space.client(), space.signed_in("bob")):
        with client:
            for place, function, message in ACTS:
                answer = asked(client, config, place, function, message)
                assert HOSTS_ONLY in answer.text, (place, message)
                assert set(answer.json()) <= {"error", "closed"}
    with space.host() as host:
        assert asked(host, config, "train", "train", {"do": "watch"}).json()["runs"] == []
        names = {
            each["name"] for each in asked(host, config, "points", "checkpoints", {"do": "watch"}).json()["checkpoints"]
        }
    assert "closedtalk-tuned" in names


@pytest.mark.parametrize("page", HOST_PAGES)
def test_a_host_page_says_what_it_is_and_no_more(space: Server, page: str) -> None:
    with space.client() as visitor:
        closed = visitor.get(f"/{page}")
        assert closed.status_code == 403
        assert "This page is the host's." in closed.text
        assert "Sign in with Hugging Face" in closed.text
        assert "gradio_config" not in closed.text
    with space.signed_in("bob") as bob:
        assert "bob, who is no owner here" in bob.get(f"/{page}").text
    with space.host() as host:
        assert "gradio_config" in host.get(f"/{page}").text


def test_nothing_that_a_visitor_is_sent_names_the_machine(space: Server, assets: Path) -> None:
    repository = str(REPOSITORY)
    secret = (space.home / "secret.key").read_bytes().hex()
    with space.client() as visitor:
        texts = [
            visitor.get(path).text
            for path in (
                "/",
                "/arena",
                "/leaderboard",
                "/train",
                "/config",
                "/config?page=train",
                "/config?page=",
                "/host",
                "/gradio_api/info?all_endpoints=true",
                "/healthz",
                "/readyz",
                "/manifest.json",
                "/nothing",
            )
        ]
    for text in texts:
        for private in (str(space.home), str(assets), repository, secret, CLIENT_SECRET, TOKEN, "198.51.100.1"):
            assert private not in text
        assert "train-form" not in text


def test_only_the_host_is_told_of_the_host_pages(space: Server, config: dict[str, Any]) -> None:
    with space.client() as visitor:
        seen = {
            each["id"]
            for path in ("/config", "/config?page=train&page=", "/config/?page=points")
            for each in visitor.get(path).json()["components"]
        }
    for page in HOST_PAGES:
        assert not seen & set(config["page"][page]["components"])


def test_another_sites_page_may_not_call_with_the_hosts_cookies(space: Server, config: dict[str, Any]) -> None:
    with space.host() as host:
        for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            host.headers.update(headers)
            assert asked(host, config, "train", "train", {"do": "demo"}).status_code == 403
            assert len(host.get("/config").json()["components"]) < len(config["components"])
            for name in headers:
                del host.headers[name]
