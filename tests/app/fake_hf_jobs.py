"""Hugging Face's job API and one dataset repository at their HTTP edge, in this process and in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

HARDWARE = [
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "accelerator": None}
    | {"unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute"},
    {"name": "l4x1", "prettyName": "L4", "cpu": "8 vCPU", "ram": "30 GB", "accelerator": None}
    | {"unitCostMicroUSD": 13333, "unitCostUSD": 0.013333, "unitLabel": "minute"},
]


@dataclass
class FakeJobs:
    """``files`` is the repository; ``jobs`` what was asked for; ``stage`` what every job is said to be in."""

    files: dict[str, bytes] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    stage: str = "SCHEDULING"
    message: str | None = None
    cancelled: list[str] = field(default_factory=list)
    private: bool | None = None
    objects: dict[str, bytes] = field(default_factory=dict)
    url: str = ""


@contextmanager
def fake_hf_jobs() -> Iterator[FakeJobs]:
    hub = FakeJobs()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if "/resolve/" in path:
                self._resolve(True)
            elif path == "/api/whoami-v2":
                self._json({"name": "ann", "type": "user"})
            elif path == "/api/jobs/hardware":
                self._json(HARDWARE)
            elif re.fullmatch(r"/api/jobs/ann/job-\d+", path):
                self._json(self._job(path.rsplit("/", 1)[-1]))
            elif "/tree/" in path:
                files = hub.files.items()
                self._json([{"type": "file", "path": n, "oid": _sha(d), "size": len(d)} for n, d in files])
            else:
                siblings = [{"rfilename": name} for name in hub.files]
                self._json({"id": "ann/wavalign-runs", "sha": _commit(hub), "private": True, "siblings": siblings})

        def do_HEAD(self) -> None:
            self._resolve(False)

        def do_PUT(self) -> None:
            hub.objects[self.path.rsplit("/", 1)[-1]] = self._body()
            self._json({})

        def do_POST(self) -> None:
            path, body = urlsplit(self.path).path, self._body()
            if path == "/api/repos/create":
                wanted = json.loads(body)
                hub.private = bool(wanted.get("private") or wanted.get("visibility") == "private")
                self._json({"url": f"{hub.url}/datasets/ann/wavalign-runs", "name": "ann/wavalign-runs"})
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif "/preupload/" in path:
                wanted = json.loads(body)["files"]
                self._json(
                    {"files": [{"path": e["path"], "uploadMode": "regular", "shouldIgnore": False} for e in wanted]}
                )
            elif "/commit/" in path:
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                self._json(
                    {"commitOid": "1" * 40, "commitUrl": f"{hub.url}/datasets/ann/wavalign-runs/commit/{'1' * 40}"}
                )
            elif path == "/api/jobs/ann":
                hub.jobs.append(json.loads(body))
                self._json(self._job(f"job-{len(hub.jobs)}"))
            elif path.endswith("/cancel"):
                hub.cancelled.append(path.split("/")[-2])
                self._json({})
            else:
                self._refuse(404)

        def _job(self, id: str) -> dict[str, Any]:
            return {
                "id": id,
                "createdAt": "2026-11-22T12:00:00.000Z",
                "dockerImage": "python:3.12",
                "flavor": "cpu-basic",
                "status": {"stage": hub.stage, "message": hub.message},
                "owner": {"id": "1", "name": "ann", "type": "user"},
            }

        def _resolve(self, with_body: bool) -> None:
            found = re.search(r"/resolve/[^/]+/(.+)$", unquote(urlsplit(self.path).path))
            data = hub.files.get(found[1]) if found else None
            if data is None:
                self._refuse(404, "EntryNotFound")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{_sha(data)}"')
            self.send_header("X-Repo-Commit", _commit(hub))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _json(self, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refuse(self, status: int, code: str = "RepoNotFound") -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _commit(hub: FakeJobs) -> str:
    """Another tree is another commit."""
    return hashlib.sha1(repr(sorted(hub.files.items())).encode()).hexdigest()


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
