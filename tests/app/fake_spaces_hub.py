"""The Hugging Face Hub at its HTTP edge, in this process: Spaces with their settings, datasets, buckets."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_SETTING = re.compile(r"/api/spaces/([^/]+/[^/]+)/(secrets|variables|hardware|volumes|runtime|sleeptime|settings)$")
_REPO = re.compile(r"/api/(spaces|datasets)/([^/]+/[^/]+)(/.*)?$")


@dataclass
class Repo:
    private: bool = False
    sdk: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    hardware: str = "cpu-basic"
    sleep: int | None = None
    volumes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FakeSpaces:
    """``repos`` by "spaces/USER/NAME" and "datasets/USER/NAME"; ``log`` has what was changed, in order."""

    repos: dict[str, Repo] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    refuses: str | None = None
    url: str = ""

    def space(self, name: str) -> Repo:
        return self.repos[f"spaces/{name}"]


@contextmanager
def fake_spaces_hub() -> Iterator[FakeSpaces]:
    hub = FakeSpaces()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            if found := _SETTING.search(path):
                self._setting(hub.space(found[1]), found[2])
                return
            found = _REPO.search(path)
            repo = hub.repos.get(f"{found[1]}/{found[2]}") if found else None
            if repo is None:
                self._refuse(404, "RepoNotFound")
            elif "/tree/" in path:
                self._json(
                    [{"type": "file", "path": name, "oid": "0" * 40, "size": n} for name, n in repo.files.items()]
                )
            else:
                siblings = [{"rfilename": name} for name in repo.files]
                self._json({"id": found[2], "sha": "0" * 40, "private": repo.private, "siblings": siblings})

        def do_PUT(self) -> None:
            path, body = urlsplit(self.path).path, self._body()
            found = _SETTING.search(path)
            if found and found[2] == "settings":
                hub.space(found[1]).private = json.loads(body)["visibility"] == "private"
                hub.log.append(f"visibility {json.loads(body)['visibility']}")
            elif found:
                hub.space(found[1]).volumes = json.loads(body)["volumes"]
                hub.log.append("volumes")
            self._json({})

        def do_DELETE(self) -> None:
            path, body = urlsplit(self.path).path, self._body()
            found = _SETTING.search(path)
            name = json.loads(body)["key"]
            del getattr(hub.space(found[1]), found[2])[name]
            hub.log.append(f"delete {found[2]} {name}")
            self._setting(hub.space(found[1]), found[2])

        def do_POST(self) -> None:
            path, body = urlsplit(self.path).path, self._body()
            if hub.refuses and hub.refuses in path:
                self._refuse(403, "Forbidden")
            elif path == "/api/repos/create":
                self._create(json.loads(body))
            elif found := _SETTING.search(path):
                self._set(hub.space(found[1]), found[2], json.loads(body))
            elif path.startswith("/api/buckets/"):
                hub.log.append("bucket")
                name = path.removeprefix("/api/buckets/")
                self._json({"url": f"{hub.url}/buckets/{name}", "id": name, "name": name})
            elif "/preupload/" in path:
                files = json.loads(body)["files"]
                modes = [{"path": each["path"], "uploadMode": _mode(each), "shouldIgnore": False} for each in files]
                self._json({"files": modes})
            elif path.endswith("/info/lfs/objects/batch"):
                wanted = json.loads(body)["objects"]
                self._json({"transfer": "basic", "objects": [{"oid": e["oid"], "size": e["size"]} for e in wanted]})
            elif "/commit/" in path:
                self._commit(path, body)
            else:
                self._json({"errors": [], "warnings": []})

        def _create(self, wanted: dict[str, Any]) -> None:
            name = f"{wanted.get('organization') or 'ann'}/{wanted['name']}"
            kind = {"space": "spaces", "dataset": "datasets"}[wanted["type"]]
            private = wanted.get("private") or wanted.get("visibility") == "private"
            hub.repos[f"{kind}/{name}"] = Repo(private=bool(private), sdk=wanted.get("sdk"))
            hub.log.append(f"create {kind}/{name}")
            self._json({"url": f"{hub.url}/{kind}/{name}", "id": "0", "name": name})

        def _setting(self, repo: Repo, what: str) -> None:
            if what == "runtime":
                self._json(
                    {
                        "stage": "RUNNING",
                        "hardware": {"current": repo.hardware, "requested": repo.hardware},
                        "gcTimeout": repo.sleep,
                        "volumes": repo.volumes,
                    }
                )
            elif what == "secrets":
                self._json({name: {"key": name} for name in repo.secrets})
            else:
                self._json({name: {"key": name, "value": value} for name, value in repo.variables.items()})

        def _set(self, repo: Repo, what: str, told: dict[str, Any]) -> None:
            if what == "hardware":
                repo.hardware, repo.sleep = told["flavor"], told.get("sleepTimeSeconds", repo.sleep)
                hub.log.append(f"hardware {told['flavor']}")
                self._json({"stage": "BUILDING", "hardware": {"current": None, "requested": repo.hardware}})
                return
            if what == "sleeptime":
                repo.sleep = told["seconds"]
                hub.log.append(f"sleep {repo.sleep}")
                self._setting(repo, "runtime")
                return
            getattr(repo, what)[told["key"]] = told["value"]
            hub.log.append(f"{what} {told['key']}")
            self._json({told["key"]: {"key": told["key"], "value": told["value"]}} if what == "variables" else {})

        def _commit(self, path: str, body: bytes) -> None:
            found = _REPO.search(path)
            repo = hub.repos[f"{found[1]}/{found[2]}"]
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    repo.files[value["path"]] = len(base64.b64decode(value["content"]))
                elif entry["key"] == "lfsFile":
                    repo.files[value["path"]] = value["size"]
                elif entry["key"] == "deletedFile":
                    del repo.files[value["path"]]
            hub.log.append("commit")
            address = f"{hub.url}/{found[1]}/{found[2]}/commit/{'1' * 40}"
            self._json({"commitOid": "1" * 40, "commitUrl": address, "hookOutput": ""})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return body
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _json(self, value: object, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _refuse(self, status: int, code: str) -> None:
            data = json.dumps({"error": code}).encode()
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _mode(file: dict[str, Any]) -> str:
    return "lfs" if file["size"] > 100_000 or file["path"].endswith((".safetensors", ".parquet")) else "regular"
