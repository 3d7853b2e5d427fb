"""What is uploaded is whole or leaves nothing, is swept in time, and one address takes no more than its share."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import access, gate
from app.access import Role
from app.callers import Caller
from app.gate import SHARE_TAKEN, UPLOAD_OVERHEAD, Gate
from app.limits import Limiter
from app.uploads import Shares, sweep


class Framework:
    """Takes a body as the framework does: what has come is in the folder."""

    def __init__(self, folder: Path, status: int = 200) -> None:
        self.folder, self.status, self.bodies = folder, status, []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def here(tmp_path: Path) -> SimpleNamespace:
    app = Framework(tmp_path)
    who = SimpleNamespace(caller=Caller(Role.VISITOR, None, "198.51.100.1"))
    shares = Shares(lambda address: f"#{address}", 1_000_000)
    made = Gate(
        app,
        callers=SimpleNamespace(of=lambda *_: who.caller),
        limiter=Limiter(lambda address: f"#{address}"),
        recordings=None,
        uploads=tmp_path,
        upload_bytes=400_000,
        folder_bytes=4_000_000,
        shares=shares,
        listeners=None,
        door=None,
        calls=None,
    )
    return SimpleNamespace(app=app, gate=made, shares=shares, who=who, folder=tmp_path)


def sent(here: SimpleNamespace, *messages: dict[str, Any], wait: bool = False) -> tuple[int, str]:
    """The status and the text that an upload of these messages gets."""
    coming, answered = list(messages), []

    async def receive() -> dict[str, Any]:
        if not coming and wait:
            await asyncio.sleep(3600)
        return coming.pop(0)

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    scope = {"type": "http", "method": "POST", "path": access.UPLOAD, "headers": [], "query_string": b""}
    asyncio.run(here.gate(scope, receive, send))
    return answered[0]["status"], answered[1]["body"].decode()


def part(size: int, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


CUT = {"type": "http.disconnect"}


def test_a_whole_body_comes_through_byte_by_byte(here: SimpleNamespace) -> None:
    assert sent(here, part(65_536, more=True), part(65_536, more=True), part(9))[0] == 200
    assert sent(here, part(65_536))[0] == 200
    assert [len(body) for body in here.app.bodies] == [2 * 65_536 + 9, 65_536]


def test_what_is_cut_or_too_long_or_too_slow_never_reaches_the_folder(
    here: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(here, part(300_000, more=True), CUT)
    assert sent(here, part(300_000, more=True), part(100_000 + UPLOAD_OVERHEAD + 1, more=True))[0] == 413
    monkeypatch.setattr(gate, "UPLOAD_SECONDS", 0.05)
    assert sent(here, part(300_000, more=True), wait=True)[0] == 408
    assert here.app.bodies == []
    assert list(here.folder.iterdir()) == []


def test_uploads_that_are_cut_take_nothing_of_the_share(here: SimpleNamespace) -> None:
    for _ in range(10):  # 3 MB of a share of 1 MB
        sent(here, part(300_000, more=True), CUT)
    assert sent(here, part(300_000))[0] == 200
    here.app.status = 400
    for _ in range(5):
        assert sent(here, part(300_000))[0] == 400


def test_without_an_account_the_address_is_the_visitor(here: SimpleNamespace) -> None:
    assert [sent(here, part(1))[0] for _ in range(21)] == [200] * 20 + [429]
    here.who.caller = Caller(Role.RATER, "ann", "198.51.100.1")
    assert [sent(here, part(1))[0] for _ in range(21)] == [200] * 20 + [429]


def test_one_address_takes_its_share_and_no_more_and_others_still_upload(here: SimpleNamespace) -> None:
    assert [sent(here, part(400_000))[0] for _ in range(2)] == [200, 200]
    assert sent(here, part(200_001)) == (429, SHARE_TAKEN)
    assert sent(here, part(200_000))[0] == 200
    assert sent(here, part(1)) == (429, SHARE_TAKEN)
    here.who.caller = Caller(Role.VISITOR, None, "198.51.100.2")
    assert sent(here, part(400_000))[0] == 200
    here.who.caller = Caller(Role.HOST, None, "198.51.100.1")
    assert sent(here, part(400_000))[0] == 200


def test_a_share_is_free_again_once_the_files_are_swept() -> None:
    now = [0.0]
    shares = Shares(lambda address: f"#{address}", 100, clock=lambda: now[0])
    assert shares.add(shares.begin("a"), 100)
    now[0] = 7200.0
    assert not shares.fits("a")  # the sweep may be five minutes late
    now[0] = 7501.0
    assert shares.fits("a")
    assert "198" not in str(shares._held)


def test_a_sweep_takes_what_is_old_and_what_was_never_completed(tmp_path: Path) -> None:
    def made(path: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
        return file

    unfinished, whole, own = made("tmpabc"), made("aa/tmp.wav"), made("bb/a.wav")
    os.utime(whole, (0, 0))  # a copy of an old file
    for minutes, there in ((9, [True, True]), (11, [False, True]), (119, [False, True]), (121, [False, False])):
        sweep(tmp_path, {str(own)}, time.time() + 60 * minutes)
        assert [unfinished.exists(), whole.exists()] == there
    assert own.exists()
    assert not whole.parent.exists()
