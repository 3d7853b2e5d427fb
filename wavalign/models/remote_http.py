"""One answer from a chat service over HTTP: asked, asked again where that helps, or refused in one sentence.

Asked again, before anything of the answer came: no connection, a timeout, 408, 409, 425, 429 and every 5xx. What the
service asks to wait (Retry-After) is waited. The key is in no message.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from wavalign.models.protocol import GenerationError
from wavalign.models.remote_description import RemoteDescription
from wavalign.models.remote_wire import DONE, Piece, completion_pieces, error_words, event_pieces, events

_AGAIN = frozenset({408, 409, 425, 429})
_LARGEST = 96 * 2**20
_EVENTS = re.compile(rb"\s*(data|event|id|retry)?:")
_LINE_END = re.compile(r"\r\n|\n|\r")
_SECRETS = re.compile(r"\b(sk|pk|hf|gsk|key)[-_][A-Za-z0-9_*.-]{4,}")


class _AgainError(Exception):
    """Worth asking again; ``args[0]`` is what to say when it is not any more, ``wait`` what the service asks for."""

    def __init__(self, sentence: str, wait: float | None = None) -> None:
        super().__init__(sentence)
        self.wait = wait


class ChatService:
    """``description``'s service; may be asked by many threads. ``name`` is the checkpoint's, for sentences."""

    def __init__(self, name: str, description: RemoteDescription, key: str | None) -> None:
        self.name, self.description, self._key = name, description, key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(description.timeout_s, connect=min(10.0, description.timeout_s))
        self._http = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False)

    def ask(self, body: dict[str, Any], stop: threading.Event) -> Iterator[Piece]:
        """The parts of the answer, as they come.

        Raises:
            GenerationError: one sentence that names the checkpoint; an answer that breaks off is one, too.
        """
        for attempt in range(self.description.attempts):
            begun = False
            try:
                for piece in self._once(body):
                    begun = True
                    yield piece
                return
            except _AgainError as error:
                if begun or attempt + 1 == self.description.attempts or stop.is_set():
                    raise self._refused(str(error)) from error
                stop.wait(self._wait(attempt, error.wait))
                if stop.is_set():
                    return
            except GenerationError as error:
                raise self._refused(str(error)) from error

    def close(self) -> None:
        self._http.close()

    def _once(self, body: dict[str, Any]) -> Iterator[Piece]:
        described = self.description
        try:
            with self._http.stream("POST", f"{described.url}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    self._raise_for(response)
                if "text/event-stream" in response.headers.get("Content-Type", ""):
                    yield from self._streamed(response.iter_lines())
                elif _EVENTS.match(data := _read(response)):  # a stream that does not say that it is one
                    yield from self._streamed(_LINE_END.split(data.decode("utf-8", "replace")))
                else:
                    yield from completion_pieces(_json(data))
        except httpx.TimeoutException as error:
            raise _AgainError(f"{described.host} did not answer within {described.timeout_s:g} s.") from error
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise _AgainError(f"the answer of {described.host} broke off. Ask again.") from error
        except httpx.TransportError as error:
            raise _AgainError(f"{described.host} cannot be reached ({type(error).__name__}).") from error
        except (httpx.InvalidURL, httpx.DecodingError) as error:
            raise GenerationError(f"{described.host} cannot be used ({type(error).__name__}).") from error

    def _streamed(self, lines: Iterable[str]) -> Iterator[Piece]:
        """An answer is whole when the service says so, or when nothing but the end follows a choice's end."""
        ended = False
        for data in events(lines):
            if data.strip() == DONE:
                return
            for piece in event_pieces(data):
                ended = piece.end is not None or (ended and not (piece.audio or piece.content or piece.transcript))
                yield piece
        if not ended:
            raise _AgainError(f"the answer of {self.description.host} broke off. Ask again.")

    def _raise_for(self, response: httpx.Response) -> None:
        status, host = response.status_code, self.description.host
        said = error_words(_json_or_none(_read(response)))
        words = f": {self._redacted(said)[:300].rstrip('. ')}" if said else ""
        if status in (401, 403):
            variable = self.description.key_env
            what = f"the key in {variable}" if variable else "to answer without a key; name its variable in key_env"
            raise GenerationError(f"{host} refuses {what} (status {status}).")
        if 300 <= status < 400:
            raise GenerationError(f"{host} sends on to another address (status {status}); use that one in url.")
        if status == 404:
            raise GenerationError(f'{host} has no model "{self.description.model}", or url is not its address{words}.')
        if status == 429 and said and "quota" in said.lower():
            raise GenerationError(f"{host} has no quota left for this key (status 429).")
        if status in _AGAIN or status >= 500:
            busy = "is busy" if status == 429 else "has trouble"
            sentence = f"{host} {busy} (status {status}){words}. Try again a little later."
            raise _AgainError(sentence, _retry_after(response))
        raise GenerationError(f"{host} refuses the request (status {status}){words}.")

    def _refused(self, sentence: str) -> GenerationError:
        return GenerationError(f'"{self.name}": {self._redacted(sentence)}')

    def _redacted(self, words: str) -> str:
        if self._key:
            words = words.replace(self._key, "(key)")
        return _SECRETS.sub("(key)", " ".join(words.split()))

    def _wait(self, attempt: int, asked: float | None) -> float:
        """Seconds before the request after ``attempt`` (from 0): doubled each time, with jitter on half of it."""
        backoff = self.description.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
        return min(max(backoff, asked or 0.0), self.description.longest_wait_s)


def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    for part in response.iter_bytes():
        data += part
        if len(data) > _LARGEST:
            raise GenerationError("The service's answer is larger than a reply can be.")
    return bytes(data)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise GenerationError("The service's answer is not JSON.") from error


def _json_or_none(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
