"""Asking a running Space as its pages do: by the queue of events and by the functions of a page."""

from __future__ import annotations

from typing import Any

import httpx


def called(client: httpx.Client, index: int, data: list[Any], session: str) -> str:
    """What comes of an event, by the queue: the text of its end."""
    body = {"fn_index": index, "data": data, "session_hash": session, "event_data": None, "trigger_id": None}
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            if "process_completed" in line or "unexpected_error" in line:
                return line
    return ""


def event_named(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in config["dependencies"] if each["api_name"] == name)


def labelled(config: dict[str, Any], label: str) -> int:
    return next(each["id"] for each in config["components"] if each["props"].get("label") == label)


def component(config: dict[str, Any], name: str) -> int:
    return next(each["id"] for each in config["components"] if each["props"].get("elem_id") == name)


def asked(client: httpx.Client, config: dict[str, Any], place: str, function: str, message: Any) -> httpx.Response:
    body = {"data": message, "component_id": component(config, place), "session_hash": "s", "fn_name": function}
    return client.post("/gradio_api/component_server/", json=body)  # as pages do
