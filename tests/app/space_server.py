"""The app as a Space runs it: the same process, environment and login, with a login service that nobody reaches."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import itsdangerous

from tests.browser.server import running_app

CLIENT_SECRET = "the client secret of a space that is not there"
TOKEN = "host-token-of-a-test-0123456789"
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ann/arena",
    "SPACE_AUTHOR_NAME": "ann",
    "SPACE_HOST": "ann-arena.hf.space",
    "OAUTH_CLIENT_ID": "client",
    "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
    "WAVALIGN_OWNERS": "team",
    "WAVALIGN_HOST_TOKEN": TOKEN,
    "WAVALIGN_LISTEN": "127.0.0.1",
    "WAVALIGN_PRELOAD": "0",
}


@dataclass(frozen=True)
class Server:
    address: str
    home: Path
    log: Path

    def client(self, **headers: str) -> httpx.Client:
        """A visitor's own; each has a network address of its own."""
        forwarded = {"x-forwarded-for": headers.pop("address", "198.51.100.1")}
        return httpx.Client(base_url=self.address, headers=forwarded | headers, timeout=60)

    def signed_in(self, name: str, secret: str = CLIENT_SECRET, seconds: float = 3600.0, **more: Any) -> httpx.Client:
        """Somebody whose browser holds a session of the login service, signed with ``secret``."""
        return self.client(cookie=f"session={session_cookie(name, secret, seconds, **more)}")

    def host(self) -> httpx.Client:
        return self.signed_in("ann")


def session_cookie(name: str, secret: str, seconds: float, **more: Any) -> str:
    """As Starlette's SessionMiddleware makes it, with what Gradio keeps in it."""
    profile = {"preferred_username": name, "name": name, "profile": "", "picture": "", **more}
    info = {"access_token": "t", "scope": "openid", "expires_at": time.time() + seconds, "userinfo": profile}
    key = hashlib.sha256((secret + "-v4").encode()).hexdigest()
    return itsdangerous.TimestampSigner(key).sign(base64.b64encode(json.dumps({"oauth_info": info}).encode())).decode()


@contextmanager
def running_space(home: Path, assets: Path, log: Path, **environment: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with (
        mock.patch.dict(os.environ, SPACE | {"WAVALIGN_PORT": port} | environment),
        running_app(home, assets, log) as address,
    ):
        yield Server(address, home, log)
