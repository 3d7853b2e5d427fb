"""One server that draws replies as tokens: asked over HTTP, asked again where that helps, given adapters while it runs.

- vLLM and vLLM-Omni: ``POST /v1/completions`` with the prompt's token ids and ``return_token_ids``; adapters through
  ``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter`` (VLLM_ALLOW_RUNTIME_LORA_UPDATING=True). Its
  log-probabilities are of the raw logits (``--logprobs-mode raw_logprobs``, the default).
- SGLang and SGLang-Omni: ``POST /generate`` with ``input_ids`` and ``return_logprob``; adapters through
  ``/load_lora_adapter`` and ``/unload_lora_adapter``. Its log-probabilities are of temperature 1 only where it was
  started with SGLANG_RETURN_ORIGINAL_LOGPROB=1.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from wavalign.models.remote_wire import error_words
from wavalign.training.rollout_config import ServerConfig

_AGAIN = frozenset({408, 409, 425, 429})
_LONGEST_WAIT_S = 60.0


class ServedError(RuntimeError):
    """What the server did not do; the message is one sentence. ``status`` is its last answer's, None without one."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """``count`` replies to ``prompt``, drawn with ``adapter``; ``stop``: tokens that end one, themselves kept."""

    adapter: str
    prompt: Sequence[int]
    count: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: Sequence[int]


@dataclass(frozen=True)
class Drawn:
    """One reply. ``logprobs`` in nats, as long as ``tokens``, or None where the server gave none."""

    tokens: list[int]
    logprobs: list[float] | None
    finished: bool


class Dialect(Protocol):
    """What servers of one kind understand: paths with their bodies, and the shape of an answer."""

    def ask(self, asked: Asked) -> tuple[str, dict[str, Any]]: ...

    def read(self, data: Any) -> list[Drawn]:
        """Raises:
        KeyError, IndexError, TypeError, ValueError: when it has another shape.
        """

    load: str
    unload: str


class Vllm:
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"

    def ask(self, asked: Asked) -> tuple[str, dict[str, Any]]:
        return "/v1/completions", {
            "model": asked.adapter,
            "prompt": list(asked.prompt),
            "n": asked.count,
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "max_tokens": asked.max_tokens,
            "seed": asked.seed,
            "stop_token_ids": list(asked.stop),
            "logprobs": 1,
            "return_token_ids": True,
            "skip_special_tokens": False,
        }

    def read(self, data: Any) -> list[Drawn]:
        ordered = sorted(data["choices"], key=lambda choice: choice.get("index", 0))
        return [
            Drawn(
                [int(token) for token in choice["token_ids"]],
                (choice.get("logprobs") or {}).get("token_logprobs"),
                choice.get("finish_reason") == "stop",
            )
            for choice in ordered
        ]


class Sglang:
    load, unload = "/load_lora_adapter", "/unload_lora_adapter"

    def ask(self, asked: Asked) -> tuple[str, dict[str, Any]]:
        return "/generate", {
            "input_ids": list(asked.prompt),
            "lora_path": asked.adapter,
            "return_logprob": True,
            "sampling_params": {
                "n": asked.count,
                "temperature": asked.temperature,
                "top_p": asked.top_p,
                "max_new_tokens": asked.max_tokens,
                "stop_token_ids": list(asked.stop),
                "skip_special_tokens": False,
            },
        }

    def read(self, data: Any) -> list[Drawn]:
        replies = data if isinstance(data, list) else [data]
        drawn = []
        for reply in replies:
            about = reply["meta_info"]
            pairs = about["output_token_logprobs"]
            logprobs = [pair[0] for pair in pairs]
            drawn.append(Drawn([int(pair[1]) for pair in pairs], logprobs, about["finish_reason"]["type"] == "stop"))
        return drawn


DIALECTS: dict[str, type[Dialect]] = {"vllm": Vllm, "sglang": Sglang}


class RolloutServer:
    """May be asked by many threads. ``retries`` counts the requests that were made again."""

    def __init__(self, config: ServerConfig, key: str | None = None) -> None:
        self.config = config
        self.dialect: Dialect = DIALECTS[config.dialect]()
        self.retries = 0
        self._lock = threading.Lock()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(config.timeout_s, connect=min(10.0, config.timeout_s))
        limits = httpx.Limits(max_connections=config.at_once)
        self._http = httpx.Client(base_url=config.url, headers=headers, timeout=timeout, limits=limits)

    def draw(self, asked: Asked) -> list[Drawn]:
        """``asked.count`` whole replies.

        Raises:
            ServedError: when they did not come, in all attempts.
        """
        path, body = self.dialect.ask(asked)

        def read(response: httpx.Response) -> list[Drawn]:
            try:
                drawn = [_checked(each) for each in self.dialect.read(response.json())]
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise ServedError(f"{self.config.url} answered in another shape ({type(error).__name__}).") from error
            if len(drawn) != asked.count:
                raise ServedError(f"{self.config.url} gave {len(drawn)} replies, not {asked.count}.")
            return drawn

        return self._trying(path, body, read)

    def load(self, name: str, path: str) -> None:
        """Takes the adapter in the folder ``path``, which the server reads itself, under ``name``.

        Raises:
            ServedError: when it does not.
        """
        body = {"lora_name": name, "lora_path": path}
        try:
            self._trying(self.dialect.load, body, lambda _: None)
        except ServedError as error:
            if "already" not in str(error):
                raise
            self.unload(name)  # of an earlier start of the run
            self._trying(self.dialect.load, body, lambda _: None)

    def unload(self, name: str) -> None:
        """Raises:
        ServedError: when the server does not let go of the adapter.
        """
        self._trying(self.dialect.unload, {"lora_name": name}, lambda _: None)

    def close(self) -> None:
        self._http.close()

    def _trying(self, path: str, body: Mapping[str, Any], read: Any) -> Any:
        for attempt in range(self.config.attempts):
            try:
                return read(self._once(path, body))
            except ServedError as error:
                final = error.status is not None and error.status < 500 and error.status not in _AGAIN
                if final or attempt + 1 == self.config.attempts:
                    raise
            with self._lock:
                self.retries += 1
            wait = self.config.backoff_s * 2**attempt * random.uniform(0.5, 1.0)
            time.sleep(min(wait, _LONGEST_WAIT_S))
        raise AssertionError("There is at least one attempt.")

    def _once(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        url = self.config.url
        try:
            response = self._http.post(url.rstrip("/") + path, json=body)
        except httpx.TimeoutException as error:
            raise ServedError(f"{url} did not answer within {self.config.timeout_s:g} s.") from error
        except httpx.HTTPError as error:
            raise ServedError(f"{url} cannot be reached ({type(error).__name__}).") from error
        if response.status_code != 200:
            raise ServedError(f"{url}{path} answers {response.status_code}: {_words(response)}", response.status_code)
        return response


def _checked(drawn: Drawn) -> Drawn:
    if not drawn.tokens:
        raise ValueError("A reply without tokens.")
    if drawn.logprobs is None:
        return drawn
    values = [math.nan if value is None else float(value) for value in drawn.logprobs]
    if len(values) != len(drawn.tokens):
        raise ValueError("Not as many log-probabilities as tokens.")
    return Drawn(drawn.tokens, values, drawn.finished)


def _words(response: httpx.Response) -> str:
    try:
        said = error_words(response.json())
    except ValueError:
        said = None
    return " ".join((said or response.text or "nothing more").split())[:300]
