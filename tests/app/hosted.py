"""A fresh copy of the program, started as a Space starts it, and a person and an owner who use it over HTTP."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import itsdangerous
import psutil

from app.battles import Rules
from app.publish_plan import shipped
from tests.app.assets import make_tiny_assets

ROOT = Path(__file__).resolve().parents[2]
SECRET = "the client secret of a space that is not there"
MARK = "WAVALIGN_TEST_CONTAINER"
"""What is in the environment of every process of one machine, so that all of them can die with it."""
READ_ONLY = "/proc/sys"
"""A home in which nobody can write, not even root."""
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ann/arena",
    "SPACE_AUTHOR_NAME": "ann",
    "SPACE_HOST": "ann-arena.hf.space",
    "SPACE_TITLE": "WavAlign Workbench",
    "OAUTH_CLIENT_ID": "client",
    "OAUTH_CLIENT_SECRET": SECRET,
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
    "HOME": READ_ONLY,
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
    "WAVALIGN_LOG": "json",
    "WAVALIGN_SECRET": "the same for all starts of this space",
}
ZERO_GPU = {
    "SPACES_ZERO_GPU": "true",
    "PYTHONPATH": str(Path(__file__).parent / "borrowed"),
    "WAVALIGN_SLICE_SECONDS": "10",
}


def fresh_copy(folder: Path) -> Path:
    """What a Space gets, with random weights in the place of the trained ones."""
    for name in shipped(ROOT):
        if name.startswith("docs/") or (name.startswith("assets/closedtalk") and not name.endswith(".txt")):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    make_tiny_assets(folder / "assets")
    return folder


@dataclass
class Machine:
    """One Space. ``disk`` outlives its restarts; ``kill`` takes everything with it, as a container's end does."""

    copy: Path
    disk: Path
    environment: Mapping[str, str]
    mark: str = field(default_factory=lambda: os.urandom(8).hex())
    process: subprocess.Popen | None = None
    starts: int = 0
    port: int = 0

    @property
    def home(self) -> Path:
        return self.disk / "home"

    @property
    def log(self) -> Path:
        return self.disk / f"log-{self.starts}.jsonl"

    def variables(self) -> dict[str, str]:
        """All that the processes are given: nothing of this machine's own but where programs are."""
        own = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        places = {"TMPDIR": str(self.disk / "tmp"), "WAVALIGN_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        return {**own, **SPACE, **places, MARK: self.mark, "WAVALIGN_PORT": str(self.port), **self.environment}

    def start(self) -> None:
        (self.disk / "tmp").mkdir(parents=True, exist_ok=True)
        self.starts += 1
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=self.copy, env=self.variables(), stdout=log, stderr=subprocess.STDOUT
            )
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20) as http:
            until(lambda: self._is_ready(http), 180)

    def _is_ready(self, http: httpx.Client) -> bool:
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(httpx.HTTPError):
            return http.get("/readyz").status_code == 200
        return False

    def kill(self) -> None:
        """SIGKILL to every process of the machine, those that are just being started included."""
        while found := self.processes():
            for each in found:
                with contextlib.suppress(psutil.Error):
                    each.kill()
            self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def processes(self) -> list[psutil.Process]:
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.environ().get(MARK) == self.mark and each.status() != psutil.STATUS_ZOMBIE:
                    found.append(each)
        return found

    def run(self, *command: str) -> subprocess.CompletedProcess:
        return subprocess.run(command, cwd=self.copy, env=self.variables(), capture_output=True, text=True, timeout=120)

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]


def until(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
    return found


class Person:
    """Somebody's browser, as far as the app can tell; ``account`` is signed in with Hugging Face."""

    def __init__(self, machine: Machine, account: str | None = None, token: str | None = None) -> None:
        headers = {"x-forwarded-for": "198.51.100.7"}
        if account:
            headers["cookie"] = f"session={_session(account)}"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{machine.port}", headers=headers, timeout=120)
        self.configs: dict[str, dict[str, Any]] = {}
        self.session = os.urandom(6).hex()
        self.token = token
        self.voted = -math.inf

    def config(self, page: str) -> dict[str, Any]:
        """What a page is made of."""
        if page not in self.configs:
            self.configs[page] = self.http.get("/config", params={"page": page}).json()
        return self.configs[page]

    def call(self, page: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """What a page's script asks of the server."""
        number = next(each["id"] for each in self.config(page)["components"] if each["props"].get("elem_id") == page)
        body = {"data": message, "component_id": number, "fn_name": page, "session_hash": self.session}
        answer = self.http.post("/gradio_api/component_server/", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def press(
        self, page: str, name: str, data: list[Any], event: Any = None, seen: Callable[[dict], bool] = lambda _: False
    ) -> list[dict[str, Any]]:
        """What comes back of an event, until it ends or ``seen`` says that it is enough."""
        config = self.config(page)
        mine = set(config["page"][page]["dependencies"])
        known = (each for each in config["dependencies"] if each["id"] in mine)
        wanted = next(each for each in known if each["api_name"].rstrip("_0123456789") == name)
        told = {"data": data, "fn_index": wanted["id"], "trigger_id": wanted["targets"][0][0], "event_data": event}
        session = os.urandom(6).hex()
        joined = self.http.post("/gradio_api/queue/join", json=told | {"session_hash": session})
        assert joined.status_code == 200, joined.text
        events: list[dict[str, Any]] = []
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line.removeprefix("data:")))
                    if events[-1].get("msg") in ("process_completed", "close_stream") or seen(events[-1]):
                        return events
        return events

    def talk(self, question: str) -> str:
        """Asks on the Talk page with every setting as it stands there; all that came back, as text."""
        config = self.config("")
        components = {each["id"]: each["props"] for each in config["components"]}
        box = next(number for number, props in components.items() if props.get("elem_id") == "question")
        event = next(
            each for each in config["dependencies"] if [box, "submit"] in [list(target) for target in each["targets"]]
        )
        values = [question if number == box else components[number].get("value") for number in event["inputs"]]
        told = {"data": values, "fn_index": event["id"], "trigger_id": box, "session_hash": self.session}
        self.http.post("/gradio_api/queue/join", json=told | {"event_data": None})
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            lines = []
            for line in stream.iter_lines():
                lines.append(line)
                if '"process_completed"' in line:
                    return "\n".join(lines)
        return "\n".join(lines)

    def arena(self, what: str, **more: Any) -> dict[str, Any]:
        return self.call("arena", {"do": what, "token": self.token, **more})

    def join(self) -> None:
        self.token = self.arena("hello")["token"]
        assert self.arena("consent", level="publish")["consent"] == "publish"

    def ask(self, seen: Callable[[dict], bool] = lambda _: False) -> str | None:
        """A new battle about an example; its id once both replies are ready."""
        ticket = json.dumps({"token": self.token, "battle": None})
        events = self.press("arena", "example", [ticket], {"index": 1}, seen)
        return _found(events, "battle")

    def listen(self, battle: str) -> None:
        """To both sides, at their own pace, until a vote is taken."""
        fetched = self.arena("fetch", battle=battle, after=0)
        for side in ("left", "right"):
            seconds = _seconds(fetched["turns"][0]["audio"][side])
            time.sleep(seconds)
            report = [{"turn": 0, "side": side, "start": 0.0, "end": seconds}]
            progress = self.arena("report", battle=battle, reports=report)["progress"]
        time.sleep(progress["wait_seconds"])

    def listen_and_vote(self, battle: str) -> dict[str, Any]:
        self.listen(battle)
        told = self.arena("vote", battle=battle, choice=2)
        self.voted = time.monotonic()
        return told

    def outwait_undo(self) -> None:
        """Until the last vote stands: exports leave out what its rater may still undo."""
        time.sleep(max(0.0, self.voted + Rules().undo + 2 - time.monotonic()))


def _session(account: str) -> str:
    """As the login service's session is kept: Starlette's cookie, with what Gradio keeps in it."""
    profile = {"preferred_username": account, "name": account, "profile": "", "picture": ""}
    info = {"access_token": "t", "scope": "openid", "expires_at": time.time() + 3600, "userinfo": profile}
    key = hashlib.sha256((SECRET + "-v4").encode()).hexdigest()
    return itsdangerous.TimestampSigner(key).sign(base64.b64encode(json.dumps({"oauth_info": info}).encode())).decode()


def _seconds(wav: str) -> float:
    with wave.open(io.BytesIO(base64.b64decode(wav))) as file:
        return file.getnframes() / file.getframerate()


def _found(value: Any, name: str) -> str | None:
    """The first text under that name, wherever it is; updates say ["replace", [..., name], text]."""
    if isinstance(value, dict):
        if isinstance(value.get(name), str):
            return value[name]
        return next(filter(None, (_found(each, name) for each in value.values())), None)
    if isinstance(value, list):
        if len(value) == 3 and isinstance(value[1], list) and value[1][-1:] == [name] and isinstance(value[2], str):
            return value[2]
        return next(filter(None, (_found(each, name) for each in value)), None)
    return None
