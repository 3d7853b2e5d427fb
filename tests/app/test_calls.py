"""What a browser sends to a handler is told to be no call of it before the framework tries."""

from __future__ import annotations

from typing import Any

import pytest

from app.calls import ADDRESS, NO_SUCH, UNREADABLE, Calls

CALLS = Calls({0: 2, 7: 0}, {"send": 0}, frozenset({3}))
JOIN, RUN, COMPONENT = "/gradio_api/queue/join", "/gradio_api/run/send", "/gradio_api/component_server/"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (JOIN, {"fn_index": 0, "data": [1, None], "session_hash": "a"}),
        (JOIN, {"fn_index": 7, "data": []}),
        (RUN, {"data": [1, 2]}),
        (COMPONENT, {"component_id": 3, "fn_name": "arena", "data": {"do": "hello"}, "session_hash": "a"}),
        ("/gradio_api/cancel", {"session_hash": "a", "fn_index": 0, "event_id": "b"}),
    ],
)
def test_what_pages_send_passes(path: str, said: Any) -> None:
    assert CALLS.fault(path, said) is None


@pytest.mark.parametrize(
    ("path", "said", "status", "words"),
    [
        (JOIN, 5, 422, UNREADABLE),
        (JOIN, ["fn_index"], 422, UNREADABLE),
        (JOIN, {"fn_index": "0", "data": [1, 2]}, 422, UNREADABLE),
        (JOIN, {"fn_index": False, "data": [1, 2]}, 422, UNREADABLE),
        (JOIN, {"fn_index": 0, "data": [1, 2], "session_hash": ["a"]}, 422, UNREADABLE),
        (JOIN, {"fn_index": 9, "data": []}, 404, NO_SUCH),
        (JOIN, {"fn_index": -1, "data": []}, 404, NO_SUCH),
        (JOIN, {"data": [1, 2]}, 404, NO_SUCH),
        (JOIN, {"fn_index": 0}, 422, "This handler takes a list of 2 values under data."),
        (JOIN, {"fn_index": 0, "data": [1]}, 422, "This handler takes a list of 2 values under data."),
        (JOIN, {"fn_index": 0, "data": [1, 2, 3]}, 422, "This handler takes a list of 2 values under data."),
        (JOIN, {"fn_index": 0, "data": "ab"}, 422, "This handler takes a list of 2 values under data."),
        (JOIN, {"fn_index": 0, "data": [1, [{"path": " HTTP://10.0.0.1/x"}]]}, 422, ADDRESS),
        ("/gradio_api/run/predict", {"data": []}, 404, NO_SUCH),
        (COMPONENT, {"component_id": 3, "data": {}}, 422, UNREADABLE),
        (COMPONENT, {"component_id": 3, "fn_name": "arena"}, 422, UNREADABLE),
        (COMPONENT, {"component_id": [], "fn_name": "arena", "data": 0}, 422, UNREADABLE),
        (COMPONENT, {"component_id": 4, "fn_name": "arena", "data": 0}, 404, NO_SUCH),
    ],
)
def test_what_cannot_be_a_call_is_a_sentence(path: str, said: Any, status: int, words: str) -> None:
    assert CALLS.fault(path, said) == (status, words)
