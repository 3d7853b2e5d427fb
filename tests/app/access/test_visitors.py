"""A visitor reaches what is theirs: votes, a conversation to take along, and a word on when to come back."""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

from tests.app.access.asking import asked, called, component, event_named, labelled
from tests.app.space_server import Server
from tests.browser.server import REPOSITORY


def test_a_visitor_reaches_what_is_theirs(space: Server, config: dict[str, Any]) -> None:
    with space.client() as visitor:
        token = asked(visitor, config, "arena", "arena", {"do": "hello"}).json()["token"]
        assert asked(visitor, config, "arena", "arena", {"do": "mine", "token": token}).json() == {"mine": []}
    with space.signed_in("bob") as bob:
        assert "token" not in asked(bob, config, "arena", "arena", {"do": "hello"}).json()


def test_a_visitor_talks_hears_and_takes_the_conversation_along(space: Server, config: dict[str, Any]) -> None:
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    said = {component(config, "question"): "what is two plus two", labelled(config, "Longest reply (s)"): 1}
    said[component(config, "as-recommended")] = False
    ask, after = (event_named(config, name) for name in ("send_text", "afterwards"))
    with space.client(address="198.51.100.6") as visitor:
        data = [said.get(id, values[id]) for id in ask["inputs"]]
        ended = called(visitor, ask["id"], data, "talker")
        assert json.loads(ended.removeprefix("data: "))["success"]
        ended = called(visitor, after["id"], [None], "talker")
        [archive] = re.findall(r'"url":"[^"]*/gradio_api/file=([^"]*conversation.zip)"', ended)
        fetched = visitor.get(f"/gradio_api/file={archive}")
        with zipfile.ZipFile(io.BytesIO(fetched.content)) as held:
            assert any(name.endswith(".json") for name in held.namelist())
        for private in (str(space.home), str(REPOSITORY)):
            assert private not in ended


def test_too_many_questions_are_told_when_to_come_back(space: Server, config: dict[str, Any]) -> None:
    index = event_named(config, "send_text")
    values = {each["id"]: each["props"].get("value") for each in config["components"]}
    data = [values[id] for id in index["inputs"]]
    with space.client(address="198.51.100.8") as visitor:
        ends = [called(visitor, index["id"], data, "hasty") for _ in range(21)]
    assert "come back in" not in ends[19]
    assert "That is 20 questions within a minute" in ends[20]
    assert json.loads(ends[20].removeprefix("data: "))["success"] is False
