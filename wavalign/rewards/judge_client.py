"""One judgement from an OpenAI-compatible chat endpoint: asked, asked again where that helps, or failed.

What is asked again: no connection, a timeout, 408, 409, 425, 429 and every 5xx, a body that is cut or is not a chat
completion, and a judgement without a score from 1 to 5. What is not: other refusals of this one request (too large,
not allowed), which fail it. What no request can get past (a wrong key, address or model) is an error.
"""

from __future__ import annotations

import base64
import os
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from wavalign.rewards.config import JudgeConfig
from wavalign.rewards.protocol import HIGHEST, RewardError, checked

_AGAIN = frozenset({408, 409, 425, 429})
_MISCONFIGURED = frozenset({401, 403, 404})
_SCORE = re.compile(r"<score>\s*(-?\d+(?:\.\d+)?)\s*(?:/\s*(\d+)\s*)?</score>", re.IGNORECASE)


@dataclass(frozen=True)
class Judgement:
    """``score`` from 1 to 5, or None with the reason of the last attempt. ``words`` are the judge's."""

    score: float | None
    words: str = ""
    reason: str = ""


def parse_score(words: str) -> float | None:
    """The last ``<score>`` of a judgement; None when there is none, or it is not a number from 1 to 5."""
    return checked(stated_score(words, HIGHEST))


def stated_score(words: str, highest: float) -> float | None:
    """The number in the last ``<score>`` of a judgement, alone or as "4/5" out of ``highest``; None without one."""
    found = [number for number, out_of in _SCORE.findall(words) if not out_of or float(out_of) == highest]
    return float(found[-1]) if found else None


class JudgeClient:
    """Asks one endpoint; may be used by many threads. The key is read from the environment and shown nowhere.

    When ``stop`` is set, waits end and what was not judged yet has failed.
    """

    def __init__(
        self,
        config: JudgeConfig,
        stop: threading.Event | None = None,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self._stop = stop or threading.Event()
        self._sleep = sleep or self._stop.wait
        self._rng = rng or random.Random()
        key = os.environ.get(config.api_key_env, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise RewardError(f"The key in {config.api_key_env} holds characters that no key has; set it again.")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
        self._http = httpx.Client(headers=headers, timeout=config.timeout_s, limits=limits)

    def ask(
        self,
        instruction: str,
        request: str,
        recordings: list[tuple[str, bytes]],
        parse: Callable[[str], float | None] = parse_score,
    ) -> Judgement:
        """One judgement of ``recordings`` (what each is, its wav bytes), under ``instruction``.

        ``parse`` reads the score in the judge's words; None from it is asked again.

        Raises:
            RewardError: when the endpoint can judge nothing as it is configured.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": request}]
        for label, wav in recordings:
            data = base64.b64encode(wav).decode("ascii")
            content.append({"type": "text", "text": label})
            content.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
        body = {
            "model": self.config.model,
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": content}],
        }
        judgement = Judgement(None, reason="it was not asked")
        for attempt in range(self.config.attempts):
            if self._stop.is_set():
                return Judgement(None, reason="the run was stopped")
            judgement, again, asked_wait = self._once(body, parse)
            if judgement.score is not None or not again:
                return judgement
            if attempt + 1 < self.config.attempts:
                self._sleep(self.wait(attempt, asked_wait))
        return judgement

    def wait(self, attempt: int, asked: float | None = None) -> float:
        """Seconds before the request after ``attempt`` (from 0): doubled each time, with full jitter on half of it.

        What the server asks for is the least; ``longest_wait_s`` is the most.
        """
        backoff = self.config.backoff_s * 2**attempt * self._rng.uniform(0.5, 1.0)
        return min(max(backoff, asked or 0.0), self.config.longest_wait_s)

    def close(self) -> None:
        self._http.close()

    def _once(self, body: dict[str, Any], parse: Callable[[str], float | None]) -> tuple[Judgement, bool, float | None]:
        """The judgement, whether asking again may help, and the seconds the server asks to wait."""
        try:
            response = self._http.post(f"{self.config.url}/chat/completions", json=body)
        except httpx.InvalidURL as error:
            raise RewardError(f"rewards.judge.url is not an address: {self.config.url}.") from error
        except httpx.TimeoutException:
            return Judgement(None, reason=f"no answer within {self.config.timeout_s:g} s"), True, None
        except httpx.TransportError as error:
            return Judgement(None, reason=f"no connection ({type(error).__name__})"), True, None
        status = response.status_code
        if status in _MISCONFIGURED or 300 <= status < 400:
            raise RewardError(
                f"The judge at {self.config.url} answers with status {status} for the model {self.config.model!r}: "
                f"check rewards.judge.url, rewards.judge.model and the key in {self.config.api_key_env}."
            )
        if status != 200:
            again = status in _AGAIN or status >= 500
            return Judgement(None, reason=f"status {status}"), again, _retry_after(response)
        words = _words(response)
        if words is None:
            return Judgement(None, reason="the body is not a chat completion"), True, None
        score = parse(words)
        reason = "" if score is not None else "no score in the judgement that its scale has"
        return Judgement(score, words, reason), score is None, None


def _words(response: httpx.Response) -> str | None:
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return content if isinstance(content, str) else None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from either form of the header (RFC 9110, section 10.2.3)."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
