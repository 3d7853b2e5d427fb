"""Whether what a browser sends to a handler can be a call of it: told before the framework tries, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import access

UNREADABLE = "That is not a request this app can read."
NO_SUCH = "There is no such handler."
ADDRESS = "Upload the file itself: addresses are not fetched."


class Calls:
    """``inputs`` says how many values each event takes, by its number, and ``blocks`` which components there are."""

    def __init__(self, inputs: Mapping[int, int], names: Mapping[str, int], blocks: frozenset[int]) -> None:
        self._inputs = inputs
        self._names = names
        self._blocks = blocks

    @classmethod
    def of(cls, demo: Any) -> Calls:
        """Those of a Gradio app."""
        inputs = {number: len(event.inputs) for number, event in demo.fns.items()}
        names = {event.api_name: number for number, event in demo.fns.items() if event.api_name}
        return cls(inputs, names, frozenset(demo.blocks))

    def fault(self, path: str, said: Any) -> tuple[int, str] | None:
        """An HTTP status and what is wrong with a call; None where nothing is."""
        if not isinstance(said, dict) or not isinstance(said.get("session_hash"), str | None):
            return 422, UNREADABLE
        if _names_another_machine(said):
            return 422, ADDRESS
        if path.rstrip("/") == access.COMPONENT:
            return self._asked(said)
        if path == access.JOIN or path.startswith(access.RUN):
            return self._called(said, path.removeprefix(access.RUN))
        return None

    def _asked(self, said: Mapping[str, Any]) -> tuple[int, str] | None:
        if not _is_number(said.get("component_id")) or not isinstance(said.get("fn_name"), str) or "data" not in said:
            return 422, UNREADABLE
        return None if said["component_id"] in self._blocks else (404, NO_SUCH)

    def _called(self, said: Mapping[str, Any], name: str) -> tuple[int, str] | None:
        number = said.get("fn_index")
        if number is None:
            number = self._names.get(name)
        elif not _is_number(number):
            return 422, UNREADABLE
        if number not in self._inputs:
            return 404, NO_SUCH
        data = said.get("data")
        if not isinstance(data, list) or len(data) != self._inputs[number]:
            return 422, f"This handler takes a list of {self._inputs[number]} values under data."
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _names_another_machine(said: Any) -> bool:
    """Whether a file in it is an address: the framework would fetch it."""
    if isinstance(said, dict):
        path = said.get("path")
        is_address = isinstance(path, str) and path.strip().lower().startswith(("http:", "https:", "ftp:", "//"))
        return is_address or any(map(_names_another_machine, said.values()))
    return isinstance(said, list) and any(map(_names_another_machine, said))
