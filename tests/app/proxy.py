"""A small reverse proxy: requests and streams of events go to one replica or the other, as a load balancer sends them.

A request that names a Gradio session goes where that session began; every other one to the next in turn. The header
``x-replica`` names a replica. Where one does not answer at its door, the other is asked, and its sessions move there.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.app.hosted import until

_HOPS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
"""Of one connection, not of the answer."""


class Proxy:
    def __init__(self, ports: Sequence[int]) -> None:
        self.replicas = [f"http://127.0.0.1:{port}" for port in ports]
        self._turn = count()
        self._homes: dict[str, int] = {}
        self._http = httpx.AsyncClient(timeout=120, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        session = _session(request, body)
        named = request.headers.get("x-replica")
        first = int(named) if named else self._homes[session] if session in self._homes else next(self._turn) % 2
        for at in (first, 1 - first):
            sent = self._http.build_request(
                request.method,
                f"{self.replicas[at]}{request.url.path}?{request.url.query}",
                headers={**request.headers, "x-forwarded-for": request.headers.get("x-forwarded-for", "127.0.0.1")},
                content=body,
            )
            try:
                answer = await self._http.send(sent, stream=True)
            except httpx.ConnectError:
                continue
            except httpx.TransportError:  # it may have been done: only the caller can know whether to send it again
                return PlainTextResponse("The replica ended.", 502)
            if session is not None:
                self._homes[session] = at
            headers = {name: value for name, value in answer.headers.items() if name not in _HOPS}
            closing = BackgroundTask(answer.aclose)
            return StreamingResponse(answer.aiter_raw(), answer.status_code, headers, background=closing)
        return PlainTextResponse("No replica answers.", 502)


def _session(request: Request, body: bytes) -> str | None:
    """Gradio's name of a tab: in the query of a stream, in the body of a call."""
    if found := request.query_params.get("session_hash"):
        return found
    try:
        said = json.loads(body)
    except ValueError:
        return None
    return said.get("session_hash") if isinstance(said, dict) else None


@contextmanager
def serving(proxy: Proxy) -> Iterator[int]:
    """Yields the port at which it listens."""
    app = Starlette(routes=[Route("/{path:path}", proxy.answer, methods=["GET", "POST", "HEAD"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
