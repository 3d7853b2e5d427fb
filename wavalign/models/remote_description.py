"""How a checkpoint on another machine is asked: its address, its dialect of the chat API, where its key comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from wavalign.models.protocol import CheckpointError

# Only names that are keys of services: a description that names another secret of the host's must not send it away.
KEY_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,60}_API_KEY")
_OWN_FIELDS = frozenset({"model", "messages", "modalities", "audio", "stream", "audios"})

AudioIn = Literal["input_audio", "audio_url", "audios"]


@dataclass(frozen=True)
class Dialect:
    """What servers of one kind understand. ``audio_in``: how the user's recordings travel.

    - ``input_audio``: a message part with base64 data (OpenAI);
    - ``audio_url``: a message part with a ``data:`` address (vLLM);
    - ``audios``: a list of ``data:`` addresses beside the messages (SGLang-Omni).

    ``voice_field``: where the voice goes: ``audio`` is OpenAI's object, anything else a field beside the messages.
    ``voice``: the one that is asked for when none is chosen. ``sampling``: the settings that are sent.
    ``token_limit``: the name of the limit of tokens. ``stream_format``: what streamed speech is asked for as.
    """

    audio_in: AudioIn
    voice_field: str
    sampling: tuple[str, ...]
    token_limit: str
    stream: bool = True
    stream_format: Literal["pcm16", "wav"] = "pcm16"
    voice: str | None = None
    words: str = ""


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect(
        "input_audio",
        "audio",
        ("temperature", "top_p", "seed"),
        "max_completion_tokens",
        voice="alloy",
        words="OpenAI and what is compatible with it",
    ),
    "openai-stream": Dialect(
        "input_audio",
        "audio",
        ("temperature", "top_p", "seed"),
        "max_tokens",
        stream_format="wav",
        words="Services that only stream, such as Alibaba Model Studio",
    ),
    "vllm-omni": Dialect(
        "audio_url",
        "speaker",
        ("temperature", "top_p", "top_k", "seed"),
        "max_tokens",
        stream=False,
        stream_format="wav",
        words="vLLM-Omni: text and speech as two choices",
    ),
    "sglang-omni": Dialect(
        "audios",
        "audio",
        ("temperature", "top_p", "top_k", "seed"),
        "max_tokens",
        stream=False,
        stream_format="wav",
        words="SGLang-Omni: recordings beside the messages",
    ),
}
"""A new kind of server is one line here, when it differs in nothing else."""


class RemoteDescription(BaseModel):
    """One model behind an OpenAI-compatible address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    """Up to and including /v1; /chat/completions is added."""
    model: str = Field(min_length=1, max_length=200)
    dialect: str = "openai"
    key_env: str | None = None
    """The environment variable that holds the key; its name ends in _API_KEY. None sends no key."""
    voice: str | None = Field(None, max_length=100)
    stream: bool | None = None
    """Whether replies are streamed; None is what the dialect does."""
    audio_format: Literal["wav", "pcm16", "mp3", "flac", "opus"] = "wav"
    """What is asked for without streaming; the dialect says what streamed speech is asked for as."""
    sample_rate: Annotated[int, Field(ge=8000, le=48000)] = 24_000
    """Of the replies, in Hz: what raw samples have, and what other rates are converted to."""
    system: str | None = Field(None, max_length=4000)
    """The system message, if any."""
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    """Between two pieces of an answer."""
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """How many requests are under way at one time."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    backoff_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    longest_wait_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    send: tuple[Literal["temperature", "top_p", "top_k", "seed"], ...] | None = None
    """The sampling settings that are sent; None is what the dialect understands."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Sent when set: services count speech tokens in it, each in its own way."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request, as the service names them."""

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must be an http(s) address, such as https://api.openai.com/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("it must not hold a user, a key or a query; name the key's variable in key_env")
        return url.rstrip("/").removesuffix("/chat/completions")

    @field_validator("dialect")
    @classmethod
    def _known_dialect(cls, dialect: str) -> str:
        if dialect not in DIALECTS:
            raise ValueError(f"there are the dialects {', '.join(DIALECTS)}, got {dialect!r}")
        return dialect

    @field_validator("key_env")
    @classmethod
    def _key_name(cls, name: str | None) -> str | None:
        if name is not None and not KEY_NAME.fullmatch(name):
            raise ValueError("it must be the name of a variable that ends in _API_KEY, such as OPENAI_API_KEY")
        return name

    @field_validator("extra")
    @classmethod
    def _not_ours(cls, extra: dict[str, Any]) -> dict[str, Any]:
        if ours := sorted(_OWN_FIELDS & extra.keys()):
            raise ValueError(f"{ours[0]} is set by the request itself")
        return extra

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def spoken(self) -> Dialect:
        return DIALECTS[self.dialect]

    @property
    def streams(self) -> bool:
        return self.spoken.stream if self.stream is None else self.stream


def key_of(description: RemoteDescription, environment: Mapping[str, str] = os.environ) -> str | None:
    """The key, or None when none is needed.

    Raises:
        CheckpointError: when the variable is not set, or holds what no key holds. The value is never told.
    """
    if description.key_env is None:
        return None
    key = environment.get(description.key_env, "").strip()
    if not key:
        raise CheckpointError(
            f"The key of {description.host} is missing: set {description.key_env} in the environment of the app and "
            "start it again."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise CheckpointError(f"The key in {description.key_env} holds characters that no key has; set it again.")
    return key
