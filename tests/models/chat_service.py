"""A chat service with audio in this process, which speaks every shape of the OpenAI-compatible API, or misbehaves."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import soundfile

TEXT = "Two and two is four."
RATE = 24_000


def tone(rate: int = RATE, seconds: float = 0.5) -> np.ndarray:
    """A soft 200 Hz, float32."""
    return (0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def wav(samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
    return encoded(samples, rate, "WAV", subtype)


def encoded(samples: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def endless_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    """As it is streamed: the header says that nobody knows the length yet."""
    head = b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    return head + b"data" + struct.pack("<I", 0xFFFFFFFF) + pcm(samples)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True)
class Answer:
    """``lines`` not None: a stream of events; ``cut``: hang up before the end. ``framed``: with chunk sizes, so that a
    client can tell the end from a lost connection."""

    body: bytes = b""
    lines: Sequence[str] | None = None
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    framed: bool = True
    hold: threading.Event | None = None
    """Waited for before the last line of a stream, or before anything of a body."""


def whole(message: dict[str, Any], *others: dict[str, Any], end: str = "stop", **how: Any) -> Answer:
    """A chat completion with one choice for every message."""
    choices = [
        {"index": index, "message": {"role": "assistant", **each}, "finish_reason": end}
        for index, each in enumerate((message, *others))
    ]
    return Answer(json.dumps({"object": "chat.completion", "choices": choices}).encode(), **how)


def stream(deltas: Sequence[dict[str, Any]], end: str | None = "stop", done: bool = True, **how: Any) -> Answer:
    """Events with one delta each; a delta's ``modality`` stands beside its choices, as vLLM-Omni has it."""
    lines = [": a comment", ""]
    for delta in deltas:
        delta = dict(delta)
        event: dict[str, Any] = {"object": "chat.completion.chunk"}
        if "modality" in delta:
            event["modality"] = delta.pop("modality")
        lines += [
            f"data: {json.dumps({**event, 'choices': [{'index': 0, 'delta': delta, 'finish_reason': None}]})}",
            "",
        ]
    if end is not None:
        lines += [f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, 'finish_reason': end}]})}", ""]
        lines += [f"data: {json.dumps({'choices': [], 'usage': {'total_tokens': 9}})}", ""]
    if done:
        lines += ["data: [DONE]", ""]
    return Answer(lines=lines, **how)


def refusal(status: int, words: str = "no", **how: Any) -> Answer:
    return Answer(json.dumps({"error": {"message": words, "type": "error"}}).encode(), status=status, **how)


def in_pieces(data: bytes, size: int = 5001) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@dataclass
class Service:
    """``requests`` are the bodies received, ``keys`` their Authorization headers."""

    url: str = ""
    requests: list[dict] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def chat_service(answer: Callable[[int, dict], Answer]) -> Iterator[Service]:
    """Serves ``answer(number of the request from 0, its body)``."""
    service, lock = Service(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(service.requests)
                service.requests.append({"path": self.path, **body})
                service.keys.append(self.headers.get("Authorization"))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client had stopped waiting
                self._send(answer(number, body))

        def _send(self, planned: Answer) -> None:
            if planned.lines is None and planned.hold is not None:
                planned.hold.wait(60)
            self.send_response(planned.status)
            for name, value in planned.headers:
                self.send_header(name, value)
            if planned.lines is None:
                self._send_whole(planned)
            else:
                self._send_stream(planned)

        def _send_whole(self, planned: Answer) -> None:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(planned.body)))
            self.end_headers()
            self.wfile.write(planned.body[: len(planned.body) // 2] if planned.cut else planned.body)
            self.close_connection = planned.cut

        def _send_stream(self, planned: Answer) -> None:
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            if planned.framed:
                self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for number, line in enumerate(planned.lines):
                if number == len(planned.lines) - 2 and planned.hold is not None:
                    planned.hold.wait(60)
                data = f"{line}\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if planned.framed else data)
                self.wfile.flush()
            if planned.framed and not planned.cut:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
