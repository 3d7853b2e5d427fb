"""The Hugging Face Hub at its HTTP edge, in this process: one dataset repository in memory, with failures on demand."""

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
from urllib.parse import unquote, urlsplit


@dataclass
class FakeHub:
    """``files`` is the repository's tree; ``cut_after``: what happens to the next commit's answer."""

    files: dict[str, bytes] = field(default_factory=dict)
    exists: bool = False
    private: bool = False
    commits: list[list[str]] = field(default_factory=list)
    squashed: int = 0
    lose_the_answer: bool = False
    refuse_commits: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)
    url: str = ""


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._resolve(with_body=False)

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if "/resolve/" in path:
                self._resolve(with_body=True)
            elif not hub.exists:
                self._refuse(404, "RepoNotFound")
            elif "/tree/" in path:
                listed = [
                    {"type": "file", "path": name, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}
                    for name, data in hub.files.items()
                ]
                self._json(listed)
            else:
                self._json({"id": "someone/votes", "sha": "0" * 40, "private": hub.private, "siblings": []})

        def do_PUT(self) -> None:
            hub.objects[self.path.rsplit("/", 1)[-1]] = self._body()
            self._json({})

        def do_POST(self) -> None:
            path, body = urlsplit(self.path).path, self._body()
            if path == "/api/repos/create":
                wanted = json.loads(body)
                hub.exists, hub.private = True, wanted.get("private") or wanted.get("visibility") == "private"
                self._json({"url": f"{hub.url}/datasets/someone/votes", "id": "0", "name": "someone/votes"})
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif "/preupload/" in path:
                wanted = json.loads(body)["files"]
                modes = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["path"].endswith(".parquet") else "regular",
                        "shouldIgnore": False,
                    }
                    for each in wanted
                ]
                self._json({"files": modes})
            elif path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {
                        "oid": each["oid"],
                        "size": each["size"],
                        "actions": {"upload": {"href": f"{hub.url}/upload/{each['oid']}"}},
                    }
                    for each in json.loads(body)["objects"]
                ]
                self._json({"transfer": "basic", "objects": objects})
            elif "/commit/" in path:
                self._commit(body)
            elif "/super-squash/" in path:
                hub.squashed += 1
                self._json({})
            else:
                self._refuse(404, "EntryNotFound")

        def _commit(self, body: bytes) -> None:
            if hub.refuse_commits:
                self._refuse(429, "TooManyRequests")
                return
            done = []
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    hub.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    hub.files[value["path"]] = hub.objects[value["oid"]]
                elif entry["key"] == "deletedFile":
                    del hub.files[value["path"]]
                done.append(f"{entry['key']} {value.get('path', '')}".strip())
            hub.commits.append(done)
            if hub.lose_the_answer:
                hub.lose_the_answer = False
                self._refuse(403, "the answer was lost")
                return
            address = f"{hub.url}/datasets/someone/votes/commit/{'1' * 40}"
            self._json({"commitOid": "1" * 40, "commitUrl": address, "hookOutput": ""})

        def _resolve(self, with_body: bool) -> None:
            found = re.search(r"/resolve/[^/]+/(.+)$", unquote(urlsplit(self.path).path))
            data = hub.files.get(found[1]) if found else None
            if data is None:
                self._refuse(404, "EntryNotFound")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "1" * 40)
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

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
