"""An OpenAI-compatible endpoint in this process, which answers or misbehaves as a test wants."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """What one request gets. ``body`` None is a chat completion that says ``words``."""

    words: str = "<score>4</score>"
    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    cut: bool = False
    """Promise the whole body and hang up half-way."""

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        return json.dumps({"choices": [{"message": {"role": "assistant", "content": self.words}}]}).encode()


@dataclass
class Endpoint:
    """``requests`` are the bodies received, ``keys`` their Authorization headers, ``peak`` the most at one time."""

    url: str = ""
    requests: list[dict] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    peak: int = 0


@contextmanager
def judge_server(answer: Callable[[int, dict], Answer]) -> Iterator[Endpoint]:
    """Serves ``answer(number of the request from 0, its body)``."""
    endpoint, lock = Endpoint(), threading.Lock()
    busy = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal busy
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(endpoint.requests)
                endpoint.requests.append({"path": self.path, **body})
                endpoint.keys.append(self.headers.get("Authorization"))
                busy += 1
                endpoint.peak = max(endpoint.peak, busy)
            try:
                planned = answer(number, body)
                time.sleep(planned.delay)
            finally:
                with lock:  # before the client can know, and ask for the next
                    busy -= 1
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client had stopped waiting
                self._send(planned)

        def _send(self, planned: Answer) -> None:
            payload = planned.payload()
            self.send_response(planned.status)
            for name, value in planned.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload[: len(payload) // 2] if planned.cut else payload)
            if planned.cut:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
