"""Bodies of requests: read whole within a bound, and handed on as if they came only now."""

from __future__ import annotations

from typing import IO

from starlette.types import Message, Receive

_PIECE = 65_536


class TooLargeError(Exception):
    """A body beyond its bound."""


class UnfinishedError(Exception):
    """A body that did not come to its end; the message is one sentence for who may still read it."""


async def whole(receive: Receive, most: int) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise TooLargeError
        more = message.get("more_body", False)
    return b"".join(parts)


def from_file(body: IO[bytes], receive: Receive) -> Receive:
    """A whole body, once; then what the connection says."""
    ended = False

    async def pieces() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        part = body.read(_PIECE)
        ended = len(part) < _PIECE
        return {"type": "http.request", "body": part, "more_body": not ended}

    return pieces


def again(body: bytes, receive: Receive) -> Receive:
    given = False

    async def first() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return first
