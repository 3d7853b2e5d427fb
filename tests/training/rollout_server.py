"""A server of the tiny base in this process: it draws real tokens with the adapters that it was given, over HTTP, in
the shapes of vLLM and of SGLang, and misbehaves on demand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from wavalign.models.loading import load_base
from wavalign.models.protocol import Rollout, Sampling


class RolloutService:
    """``asked`` are the bodies of all requests by path. ``broken`` is called with (path, body) before each answer, and
    gives a status to answer with, or None. ``silent``: no log-probabilities."""

    def __init__(self, base: Path) -> None:
        self.base = load_base("tiny-base", base, torch.device("cpu"))
        self.lock = threading.RLock()
        self.loaded: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.drawn: dict[tuple[int, ...], Rollout] = {}
        self.broken: Any = lambda path, body: None
        self.silent = False
        self.url = ""

    def of(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == path]

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self.lock:
            self.asked.append((path, body))
            status = self.broken(path, body)
            if status is not None:
                return status, {"error": {"message": "the cat sat on the cable"}}
            if path.endswith("/load_lora_adapter"):
                return self.load(body["lora_name"], body["lora_path"])
            if path.endswith("/unload_lora_adapter"):
                return (200, {}) if self.loaded.pop(body["lora_name"], None) else (404, {"error": "no such adapter"})
            if path == "/v1/completions":
                return self.complete(body)
            if path == "/generate":
                return self.generate(body)
            return 404, {"error": "no such page"}

    def load(self, name: str, path: str) -> tuple[int, Any]:
        if name in self.loaded:
            return 400, {"error": f"The lora adapter '{name}' has already been loaded."}
        own = f"adapter{len(self.of('/v1/load_lora_adapter')) + len(self.of('/load_lora_adapter'))}"
        if hasattr(self.base.model, "peft_config"):
            self.base.model.load_adapter(path, adapter_name=own)
            model = self.base.model
        else:
            model = PeftModel.from_pretrained(self.base.model, path, adapter_name=own)
        self.base.attached(model.eval())
        self.loaded[name] = self.base.policy({name: own})
        return 200, {}

    def draw(
        self, name: str, prompt: list[int], count: int, temperature: float, most: int, seed: int, stop: list[int]
    ) -> list[Rollout]:
        policy = self.loaded[name]
        sampling = Sampling(temperature=temperature, max_tokens=most, max_seconds=60.0, seed=seed)
        short = policy.text_end in stop
        (rollouts,) = policy.sample_groups([prompt], count, sampling, checkpoint=name, text_only=short)
        self.drawn |= {rollout.tokens: rollout for rollout in rollouts}
        return rollouts

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["model"] not in self.loaded:
            return 404, {"error": {"message": f"The model {body['model']} does not exist."}}
        about = (body["n"], body["temperature"], body["max_tokens"], body["seed"], body["stop_token_ids"])
        choices = [
            {
                "index": index,
                "token_ids": list(rollout.tokens) if body["return_token_ids"] else None,
                "logprobs": None if self.silent else {"token_logprobs": rollout.logprobs.tolist()},
                "finish_reason": "stop" if rollout.finished else "length",
            }
            for index, rollout in enumerate(self.draw(body["model"], body["prompt"], *about))
        ]
        return 200, {"choices": choices[::-1]}

    def generate(self, body: dict[str, Any]) -> tuple[int, Any]:
        own = body["sampling_params"]
        about = (own["n"], own["temperature"], own["max_new_tokens"], len(self.asked), own["stop_token_ids"])
        replies = []
        for rollout in self.draw(body["lora_path"], body["input_ids"], *about):
            pairs = [[float(p), token, None] for p, token in zip(rollout.logprobs, rollout.tokens, strict=True)]
            end = {"type": "stop" if rollout.finished else "length"}
            replies.append({"meta_info": {"output_token_logprobs": pairs, "finish_reason": end}})
        return 200, replies


@contextmanager
def serving(base: Path) -> Iterator[RolloutService]:
    service = RolloutService(base)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = service.answer(self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
