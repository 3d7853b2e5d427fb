"""Two apps, started as ``python app.py``, on one PostgreSQL and one home, behind one proxy."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.app.hosted import ROOT, Person, until
from tests.app.proxy import Proxy, serving

TOKEN = "host-token-of-both-replicas-0123456789"
SECRET = "the secret that both replicas share"


@dataclass
class Replicas:
    """``port`` is the proxy's: what a browser is given."""

    home: Path
    assets: Path
    database: str
    processes: list[subprocess.Popen] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)
    port: int = 0
    _configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What pages are made of is the same on both."""

    def person(self, at: int | None = None, token: str | None = None) -> Person:
        """Somebody's browser; ``at`` is the replica that all of its requests go to while that one lives."""
        person = Person(self, token=token)
        person.configs = self._configs
        if at is not None:
            person.http.headers["x-replica"] = str(at)
        return person

    def host(self, at: int | None = None) -> Person:
        """Who gave the host's token."""
        person = self.person(at)
        assert person.http.post("/host", data={"token": TOKEN}).status_code == 303
        return person

    def kill(self, at: int) -> None:
        self.processes[at].send_signal(signal.SIGKILL)
        self.processes[at].wait()

    def log(self, at: int) -> str:
        return (self.home / f"log-{at}").read_text()

    def _start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.ports.append(free.getsockname()[1])
        own = {
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONUNBUFFERED": "1",
            "WAVALIGN_HOME": str(self.home),
            "WAVALIGN_ASSETS": str(self.assets),
            "WAVALIGN_DATABASE": self.database,
            "WAVALIGN_SECRET": SECRET,
            "WAVALIGN_HOST_TOKEN": TOKEN,
            "WAVALIGN_PRELOAD": "0",
            "WAVALIGN_PORT": str(self.ports[-1]),
        }
        with (self.home / f"log-{len(self.processes)}").open("w") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "app.py"], cwd=ROOT, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def _is_ready(self, at: int, http: httpx.Client) -> bool:
        assert self.processes[at].poll() is None, self.log(at)[-3000:]
        if " is at http" not in self.log(at):  # asking a port where nobody listens costs more than a look at the log
            return False
        with suppress(httpx.HTTPError):
            return http.get(f"http://127.0.0.1:{self.ports[at]}/readyz").status_code == 200
        return False


@contextmanager
def running(home: Path, assets: Path, database: str) -> Iterator[Replicas]:
    replicas = Replicas(home, assets, database)
    try:
        for _ in range(2):
            replicas._start()
        with httpx.Client(timeout=60) as http:
            until(lambda: all(replicas._is_ready(at, http) for at in range(2)), 300)
        with serving(Proxy(replicas.ports)) as replicas.port:
            yield replicas
    finally:
        for process in replicas.processes:
            process.kill()
            process.wait()
