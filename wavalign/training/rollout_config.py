"""How replies are sampled, and by whom. No torch is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ServerConfig(_Block):
    """A server of the base that takes prompts and gives replies as tokens, and takes adapters while it runs."""

    dialect: Literal["vllm", "sglang"] = "vllm"
    """vllm: /v1/completions, of vLLM and vLLM-Omni. sglang: /generate, of SGLang and SGLang-Omni."""
    url: str = Field("http://127.0.0.1:8000", pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$")
    """Its address, without /v1."""
    key_env: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_]{0,60}_API_KEY$")
    """The variable that holds its key, where it wants one."""
    adapters: Path | None = None
    """A folder that trainer and server both see; empty takes the run's own."""
    adapters_there: str | None = None
    """The same folder as the server sees it, where its path differs."""
    push_every: int = Field(1, ge=1)
    """Updates after which the server gets the adapter again. Above 1 it samples from an older one meanwhile."""
    max_staleness: int = Field(8, ge=0)
    """Updates by which the server's adapter may be behind, where it does not take a newer one; more end the run."""
    logprobs: Literal["server", "trainer"] = "server"
    """Whose log-probabilities of a reply count as those it was drawn with: the server's (at temperature 1), or the
    trainer's own under the adapter that the server had."""
    truncate: float = Field(2.0, ge=1)
    """Importance ratios above this count as this."""
    max_failed_share: float = Field(0.5, ge=0, le=1)
    """A batch of which more replies did not come ends the run; fewer are left out."""
    at_once: int = Field(16, ge=1, le=512)
    """Requests under way at one time, of each process."""
    attempts: int = Field(3, ge=1, le=20)
    """How often a request is made before its replies have failed."""
    backoff_s: float = Field(1.0, ge=0)
    """Seconds before the second attempt; doubled for each further one."""
    timeout_s: float = Field(300.0, gt=0)
    """Seconds that an answer may take."""


class RolloutConfig(_Block):
    """How replies are sampled from the policy."""

    group_size: int = Field(8, ge=2, le=256)
    """K: replies to each prompt."""
    temperature: float = Field(0.9, gt=0, le=5)
    """Of the words; the method samples at 0.9."""
    speech_temperature: float | None = Field(None, gt=0, le=5)
    """Of the speech tokens; empty means the same as the words'."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the smallest set of tokens that holds this much probability; 1 keeps all."""
    max_tokens: int = Field(320, ge=2)
    """Longest reply, in tokens of all channels."""
    max_seconds: float = Field(8.0, gt=0)
    """Longest reply, in seconds of speech."""
    stop: Literal["auto", "text", "speech"] = "auto"
    """Where a reply ends: with its text, with its speech, or with its text wherever nothing needs the rest (auto)."""
    spoken: int | None = Field(None, ge=2)
    """Scope routed: how many of the replies to a prompt are spoken to their end and judged by sound; the others end
    with their text and teach words only. Empty means all."""
    rows_at_once: int = Field(64, ge=1)
    """Replies that are decoded in one batch."""
    updates: int = Field(1, ge=1, le=16)
    """Optimiser steps on one batch of replies; from the second on the ratio is clipped in earnest."""

    source: Literal["local", "served"] = "local"
    """Who samples: the processes that train, or a server that holds the same base."""
    server: ServerConfig = ServerConfig()
    """With source served: which, and how it is kept up to date."""

    @model_validator(mode="after")
    def _consistent(self) -> RolloutConfig:
        if self.spoken is not None and self.spoken > self.group_size:
            raise ValueError(f"rollouts.spoken is {self.spoken}, but only {self.group_size} replies are sampled.")
        if self.source == "served" and self.speech_temperature not in (None, self.temperature):
            raise ValueError("rollouts.speech_temperature: a server samples words and sounds at one temperature.")
        return self
