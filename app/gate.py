"""The one door: every request passes here before anything else of the app sees it.

What is not named in ``app.access`` is not there. Host pages show others what they are and how to get in. Bodies are
bounded, uploads counted, and what the framework would tell of pages that are not the caller's is cut away.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import access, logs
from app.access import Role
from app.bodies import TooLargeError, UnfinishedError, again, from_file, whole
from app.callers import SCOPE, Caller, Callers
from app.calls import UNREADABLE, Calls
from app.door import Door
from app.limits import Limiter, LimitError
from app.recordings import Recordings
from app.standing import Listeners
from app.uploads import Shares

CALL_BYTES = 2_000_000
"""The largest call: a form of the Train page. What people say comes by upload."""
FORM_BYTES = 10_000
UPLOAD_OVERHEAD = 20_000
"""Bytes of an upload that are not the file."""
UPLOAD_SECONDS = 300.0
"""Who sends slower than that does not get to the end."""
_IN_MEMORY = 1_000_000
_SOUNDS = frozenset(
    {".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".webm", ".zip"},
)
"""What a visitor may fetch from the upload folder."""
NOT_HERE = "There is nothing at this address."
NOT_YOURS = "This is the host's."
SHARE_TAKEN = "As many recordings as fit are kept of your network right now. Come back in half an hour."
FOREIGN = "A page of another site may not do this."


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        callers: Callers,
        limiter: Limiter,
        recordings: Recordings,
        uploads: Path,
        upload_bytes: int,
        folder_bytes: int,
        shares: Shares,
        listeners: Listeners,
        door: Door,
        calls: Calls,
    ) -> None:
        self._app = app
        self._callers = callers
        self._limiter = limiter
        self._recordings = recordings
        self._uploads = uploads
        self._upload_bytes = upload_bytes
        self._folder_bytes = folder_bytes
        self._shares = shares
        self._listeners = listeners
        self._door = door
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":  # the app has none
            await send({"type": "websocket.close", "code": 1008})

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        client = scope["client"][0] if scope.get("client") else ""
        caller = self._callers.of(_plain(headers), scope.get("session") or {}, client)
        scope[SCOPE] = caller
        method, path = scope["method"], _path(scope)
        needed = access.role_of_route(method, path)
        answer: Response | None = None
        if caller.foreign and method not in ("GET", "HEAD"):
            answer = PlainTextResponse(FOREIGN, 403)
        elif needed is None:
            answer = PlainTextResponse(NOT_HERE, 404)
        elif caller.role < needed:
            page = access.page_of(path)
            answer = self._door.closed(page, caller) if page is not None else PlainTextResponse(NOT_YOURS, 403)
        elif path in ("/host", "/host/leave"):
            answer = await self._at_the_door(method, path, caller, scope, receive)
        elif found := access.RECORDING_FORM.fullmatch(path):
            answer = self._recording(found["name"])
        elif path.startswith(access.FILE):
            answer = self._refused_file(path.removeprefix(access.FILE), caller)
        elif path.rstrip("/") in ("/config", "/gradio_api/info"):
            scope["query_string"] = _own_page(scope["query_string"], caller)
        elif path == access.UPLOAD:
            answer = self._refused_upload(headers, caller)
            if answer is None:
                await self._upload(caller, scope, receive, send)
                return
        elif method == "POST":
            answer, receive = await self._called(path, headers, receive)
        if answer is not None:
            await answer(scope, receive, send)
        elif path == "/gradio_api/queue/data":
            tab = _first(parse_qs(scope["query_string"].decode("latin-1")), "session_hash") or ""
            with self._listeners.listening(tab):
                await self._app(scope, receive, send)
        elif path in access.SIGNING_IN:
            try:
                await self._app(scope, receive, send)
            except Exception as error:
                # The login library, and httpx or httpx2, whichever is there, with which it asks.
                why = type(error).__module__.partition(".")[0]
                if why not in ("authlib", "httpx", "httpx2"):
                    raise
                said = str(error)[:200]  # some of it comes with the request
                logs.say(f"Somebody could not sign in: {type(error).__name__} {said!r}", event="login")
                failed = self._door.login_refused if why == "authlib" else self._door.login_away
                await failed(caller)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _upload(self, caller: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        """The framework gets a whole body or none: of one that is cut it would leave the part it has in the folder."""
        upload, kept = self._shares.begin(caller.address), False
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=self._uploads) as body:  # has no name: it ends with us
                try:
                    await asyncio.wait_for(self._spool(upload, caller, body, receive), UPLOAD_SECONDS)
                except TooLargeError:
                    await self._too_large()(scope, receive, send)
                except TimeoutError:
                    said = f"That took longer than {UPLOAD_SECONDS / 60:.0f} minutes. Use a shorter recording."
                    await PlainTextResponse(said, 408)(scope, receive, send)
                except UnfinishedError as error:
                    await PlainTextResponse(str(error), 429)(scope, receive, send)
                else:
                    body.seek(0)
                    await self._app(scope, from_file(body, receive), sending)
                    kept = status < 400
        finally:
            if not kept:
                self._shares.drop(upload)

    async def _spool(self, upload: int, caller: Caller, body: IO[bytes], receive: Receive) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise UnfinishedError("The upload was not whole.")
            part = message.get("body", b"")
            size += len(part)
            if size > self._upload_bytes + UPLOAD_OVERHEAD:
                raise TooLargeError
            if caller.role < Role.HOST and not self._shares.add(upload, len(part)):
                raise UnfinishedError(SHARE_TAKEN)
            body.write(part)
            more = message.get("more_body", False)

    async def _at_the_door(self, method: str, path: str, caller: Caller, scope: Scope, receive: Receive) -> Response:
        if path == "/host/leave":
            return self._door.leave()
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if method in ("GET", "HEAD"):
            return self._door.page(caller, _first(query, "to"))
        try:
            self._limiter.take("key", caller.address)
        except LimitError as error:
            return self._door.page(caller, _first(query, "to"), str(error), 429)
        try:
            form = parse_qs((await whole(receive, FORM_BYTES)).decode("utf-8", "replace"))
        except TooLargeError:
            form = {}
        return self._door.enter(caller, _first(form, "token"), _first(form, "to"), _is_secure(scope))

    def _recording(self, name: str) -> Response:
        path = self._recordings.folder / name
        if not path.is_file():
            return PlainTextResponse("This recording is not kept any more.", 404)
        return FileResponse(path, media_type="audio/wav", headers={"Cache-Control": "private, max-age=3600"})

    def _refused_file(self, name: str, caller: Caller) -> Response | None:
        """Visitors get what they uploaded or were given to download, and nothing by way of another machine."""
        if name.lower().startswith(("http:", "https:")):
            return PlainTextResponse(NOT_HERE, 404)
        if caller.role is Role.HOST:
            return None
        path = Path(os.path.realpath(name))
        own = path.is_relative_to(os.path.realpath(self._uploads)) and path.suffix.lower() in _SOUNDS
        return None if own else PlainTextResponse(NOT_YOURS, 403)

    def _refused_upload(self, headers: Headers, caller: Caller) -> Response | None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._upload_bytes + UPLOAD_OVERHEAD:
            return self._too_large()
        if caller.role is Role.HOST:
            return None
        try:
            self._limiter.take("upload", caller.address, caller.account)
        except LimitError as error:
            return PlainTextResponse(str(error), 429, {"Retry-After": str(int(error.seconds) + 1)})
        if not self._shares.fits(caller.address):
            return PlainTextResponse(SHARE_TAKEN, 429)
        if _size(self._uploads) > self._folder_bytes:
            return PlainTextResponse("Too many recordings are kept here right now. Come back in half an hour.", 503)
        return None

    async def _called(self, path: str, headers: Headers, receive: Receive) -> tuple[Response | None, Receive]:
        """A call of a handler: JSON of a bounded size, which sends the server to no other machine."""
        if headers.get("content-type", "").split(";")[0].strip() == "multipart/form-data":
            return PlainTextResponse(NOT_HERE, 404), receive
        try:
            body = await whole(receive, CALL_BYTES)
        except TooLargeError:
            return JSONResponse({"detail": "That is more than one request may hold."}, 413), receive
        try:
            fault = self._calls.fault(path, json.loads(body))
        except (ValueError, RecursionError):
            fault = 400, UNREADABLE
        if fault is not None:
            return JSONResponse({"detail": fault[1]}, fault[0]), receive
        return None, again(body, receive)

    def _too_large(self) -> Response:
        return PlainTextResponse(
            f"That file is larger than {self._upload_bytes / 1e6:.0f} MB. Use a shorter recording.", 413
        )


def _plain(headers: Headers) -> dict[str, str]:
    return {name: ", ".join(headers.getlist(name)) for name in headers}


def _path(scope: Scope) -> str:
    """The address below the app's root, as the framework routes it."""
    path, root = scope["path"], scope.get("root_path", "")
    return path[len(root) :] or "/" if root and (path == root or path.startswith(f"{root}/")) else path


def _own_page(query: bytes, caller: Caller) -> bytes:
    """The query cut to one page that is the caller's: without it, the framework tells of all pages."""
    if caller.role is Role.HOST:
        return query
    page = _first(parse_qs(query.decode("latin-1"), keep_blank_values=True), "page") or ""
    allowed = access.PAGES.get(page, Role.HOST) <= caller.role
    return urlencode({"page": page if allowed else ""}).encode()


def _first(values: dict[str, list[str]], name: str) -> str | None:
    return values[name][0] if values.get(name) else None


def _is_secure(scope: Scope) -> bool:
    return "https" in (scope.get("scheme"), Headers(scope=scope).get("x-forwarded-proto", "").split(",")[0].strip())


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name), follow_symlinks=False).st_size
            except OSError:  # swept in the meantime
                continue
    return total
