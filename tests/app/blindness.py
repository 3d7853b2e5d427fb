"""Audits that nothing on the wire tells which side is which: a client plays battles of one model against its twin.

Both checkpoints of every battle say exactly the same (the second is the first with an adapter of zeros, both greedy),
so whatever a classifier can learn about the sides from what reaches the client before the vote is a leak. The test runs
it briefly; the long audit, about ten minutes on one core, plays a tenth as many battles again with a leak planted:

    python -m tests.app.blindness --battles 1000
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio
import httpx
import numpy as np
import soundfile
import torch

from app.battles import SIDES
from app.frame import serve
from app.pages.arena_desk import Desk
from app.rates import Rates
from app.services import Services
from app.settings import Settings
from app.store.schema import BattleRow
from tests.app.assets import make_tiny_assets
from tests.tiny import interleaved_description

TWIN = "closedtalk-tuned"
BATTLES_OF_ONE_RATER = 50
FEWEST = 40
_BUCKETS = 24
_LONG = 400


@dataclass
class Wire:
    """What one battle put on the wire, in order: ``(what, value)`` with plain values, times in seconds."""

    seen: list[tuple[str, Any]] = field(default_factory=list)

    def response(self, what: str, response: httpx.Response, seconds: float) -> None:
        self.seen.append((f"{what}/url", str(response.request.url.path)))
        self.seen.append((f"{what}/status", response.status_code))
        self.seen.append((f"{what}/seconds", seconds))
        self.seen.append((f"{what}/bytes", len(response.content)))
        for name, value in response.headers.items():
            if name != "date":
                self.seen.append((f"{what}/header/{name}", value))


@dataclass(frozen=True)
class Client:
    """A browser as far as the server can tell; knows the page's numbers from its configuration."""

    http: httpx.Client
    demo: gradio.Blocks

    def rater(self) -> str:
        token = self.ask({"do": "hello"}).json()["token"]
        self.ask({"do": "consent", "token": token, "level": "publish"})
        return token

    def ask(self, message: Mapping[str, Any]) -> httpx.Response:
        stage = next(number for number, block in self.demo.blocks.items() if getattr(block, "elem_id", "") == "arena")
        body = {"data": message, "component_id": stage, "fn_name": "arena", "session_hash": "audit"}
        return self.http.post("/gradio_api/component_server/", json=body)

    def battle(self, token: str, example: int) -> tuple[str, Wire]:
        """Asks one example and fetches the replies, up to where a person would listen; the battle and its wire."""
        wire, session = Wire(), f"audit{time.monotonic_ns()}"
        number, function = next(
            (number, each) for number, each in self.demo.fns.items() if each.page == "arena" and each.name == "example"
        )
        started = time.perf_counter()
        joined = self.http.post(
            "/gradio_api/queue/join",
            json={
                "data": [json.dumps({"token": token, "battle": None})],
                "event_data": {"index": example},
                "fn_index": number,
                "trigger_id": function.targets[0][0],
                "session_hash": session,
            },
        )
        wire.response("join", joined, time.perf_counter() - started)
        battle = None
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            for position, line in enumerate(line for line in stream.iter_lines() if line.startswith("data:")):
                event = json.loads(line.removeprefix("data:"))
                wire.seen.append((f"event/{position}/seconds", time.perf_counter() - started))
                wire.seen.append((f"event/{position}/bytes", len(line)))
                wire.seen.append((f"event/{position}", event))
                battle = _named(event, "battle") or battle
                if event.get("msg") in ("process_completed", "close_stream"):
                    break
        if battle is None:
            raise AssertionError(f"No battle was opened: {wire.seen[-1]}")
        for what, message in (
            ("fetch", {"after": 0}),
            ("report", {"reports": [{"turn": 0, "side": "left", "start": 0.0, "end": 0.05}]}),
            ("progress", {}),
        ):
            started = time.perf_counter()
            answer = self.ask({"do": what, "token": token, "battle": battle, **message})
            wire.response(what, answer, time.perf_counter() - started)
            wire.seen.append((what, answer.json()))
        return battle, wire


@contextmanager
def twins(folder: Path) -> Iterator[tuple[Client, Services]]:
    """The real app over tiny checkpoints of which the second says what the first says."""
    assets = make_tiny_assets(folder / "assets")
    _silence_adapter(assets)
    # Greedy: each side draws with a seed of its own, and both are to say the same.
    sampling = {"temperature": 0.0, "max_tokens": 32, "max_seconds": 0.6}
    description = interleaved_description(codec="../closedtalk-codec", sampling=sampling)
    (assets / "closedtalk-base" / "interleaved.json").write_text(json.dumps(description), encoding="utf-8")
    services = Services(Settings(folder / "home", assets, preload=False))
    services.voting.staging.rates = Rates(10**6, 10**6, 10**6)  # one address asks more in an hour than people do
    demo, address = serve(services)
    try:
        with httpx.Client(base_url=address.rstrip("/"), timeout=120) as http:
            yield Client(http, demo), services
    finally:
        demo.close()
        services.voting.store.close()


def play(client: Client, services: Services, battles: int) -> tuple[list[Wire], np.ndarray]:
    """``battles`` wires and, for each, whether the tuned checkpoint was on the left, bool (battles,)."""
    wires, names = [], []
    token = ""
    for number in range(battles):
        if number % BATTLES_OF_ONE_RATER == 0:
            token = client.rater()
        battle, wire = client.battle(token, number % 4)
        wires.append(wire)
        names.append(battle)
    with services.voting.store.reading() as session:
        lefts = [session.get(BattleRow, each).left for each in names]
    return wires, np.array([left == TWIN for left in lefts])


@contextmanager
def planted_leak() -> Iterator[None]:
    """Meanwhile every reply has a file name that says whose it is."""
    fetch = Desk._fetch

    def leaking(desk: Desk, rater: str, message: Mapping[str, Any]) -> dict[str, Any]:
        found = fetch(desk, rater, message)
        with desk.services.voting.store.reading() as session:
            row = session.get(BattleRow, message["battle"])
            names = {side: f"{getattr(row, side)}.wav" for side in SIDES}
        return found | {"turns": [turn | {"file": names} for turn in found["turns"]]}

    Desk._fetch = leaking
    try:
        yield
    finally:
        Desk._fetch = fetch


def features(wires: Sequence[Wire]) -> np.ndarray:
    """One row a battle, float64 (battles, features): what belongs to a side as left minus right, all else as it is.

    Texts are their length and hashed trigrams, audio its bytes, header and measures, objects the order of their keys.
    """
    rows = [_side_by_side(dict(_leaves(wire))) for wire in wires]
    names = sorted({name for row in rows for name in row})
    table = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    table = table[:, table.std(0) > 1e-12]
    return (table - table.mean(0)) / table.std(0)


@dataclass(frozen=True)
class Verdict:
    """``right`` of ``battles`` guessed in cross-validation; the intervals are Wilson's.

    ``blind`` takes the one at 99.9 %: a test that runs often must not find a leak by chance.
    """

    right: int
    battles: int

    @property
    def interval(self) -> tuple[float, float]:
        return self.within(3.2905)

    def within(self, z: float) -> tuple[float, float]:
        """``z`` standard deviations of the normal distribution: 1.96 for 95 %."""
        n, p = self.battles, self.right / self.battles
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return middle - half, middle + half

    @property
    def blind(self) -> bool:
        low, high = self.interval
        return low <= 0.5 <= high

    def __str__(self) -> str:
        low, high = self.within(1.96)
        share = f"{self.right / self.battles:.1%} (95 % interval {low:.1%} to {high:.1%})"
        return f"{self.right} of {self.battles} sides guessed, {share}"


def audit(wires: Sequence[Wire], tuned_left: np.ndarray, folds: int = 5, seed: int = 0) -> Verdict:
    """Logistic regression on everything that was seen, each battle guessed by a model that did not learn from it."""
    table = features(wires)
    rng = np.random.default_rng(seed)
    fold = np.empty(len(tuned_left), int)
    for label in (False, True):  # as many of each in every fold, or the rarer one would be guessed
        places = rng.permutation(np.flatnonzero(tuned_left == label))
        fold[places] = np.arange(len(places)) % folds
    right = 0
    for number in range(folds):
        learn, guess = fold != number, fold == number
        weights, bias = logistic(table[learn], tuned_left[learn])
        right += int(((table[guess] @ weights + bias > 0) == tuned_left[guess]).sum())
    return Verdict(right, len(tuned_left))


def logistic(table: np.ndarray, labels: np.ndarray, penalty: float = 1.0) -> tuple[np.ndarray, float]:
    """L2-penalised logistic regression by Newton on the battles (not the features, which are many more).

    ``table`` (n, p), ``labels`` bool (n,); returns weights (p,) and the bias. With weights = table.T @ a the problem
    has n + 1 unknowns. Classes count alike, however many each has.
    """
    n = len(table)
    gram = table @ table.T / table.shape[1]
    wanted = labels.astype(float)
    counts = np.where(labels, 0.5 / max(1, labels.sum()), 0.5 / max(1, (~labels).sum())) * n
    a, bias = np.zeros(n), 0.0
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(gram @ a + bias, -30, 30)))
        pull = counts * (wanted - chance) - penalty * a
        curve = np.maximum(counts * chance * (1 - chance), 1e-9)
        system = np.zeros((n + 1, n + 1))
        system[:n, :n] = curve[:, None] * gram + penalty * np.eye(n)
        system[:n, n] = curve
        system[n, :n] = curve @ gram
        system[n, n] = curve.sum() + 1e-9
        step = np.linalg.solve(system, np.append(pull, counts @ (wanted - chance)))
        a, bias = a + step[:n], bias + step[n]
        if np.abs(step).max() < 1e-8:
            break
    return table.T @ a / table.shape[1], bias


def _leaves(wire: Wire) -> Iterator[tuple[str, float]]:
    for what, value in wire.seen:
        yield from _numbers(what, value)


def _numbers(path: str, value: Any) -> Iterator[tuple[str, float]]:
    """Every value as named numbers."""
    if isinstance(value, bool | int | float):
        yield path, float(value)
    elif isinstance(value, str) and len(value) > _LONG:
        yield from _sound(path, value)
    elif isinstance(value, str):
        yield f"{path}/length", float(len(value))
        for start in range(max(0, len(value) - 2)):
            bucket = zlib.crc32(value[start : start + 3].encode()) % _BUCKETS
            yield f"{path}/trigram{bucket}", 1.0
    elif isinstance(value, dict):
        for position, (name, each) in enumerate(value.items()):
            yield f"{path}/{name}/position", float(position)
            yield from _numbers(f"{path}/{name}", each)
    elif isinstance(value, list):
        yield f"{path}/count", float(len(value))
        for position, each in enumerate(value):
            yield from _numbers(f"{path}/{position}", each)


def _sound(path: str, text: str) -> Iterator[tuple[str, float]]:
    """A wav in base64: its bytes, its header, and what can be measured without hearing words."""
    data = base64.b64decode(text)
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    loud = np.abs(samples.astype(float))
    heard = np.flatnonzero(loud > 200)
    yield f"{path}/bytes", float(len(data))
    yield f"{path}/header", float(zlib.crc32(data[:44]) % 1009)
    yield f"{path}/hash", float(zlib.crc32(data) % 1009)
    yield f"{path}/rate", float(rate)
    yield f"{path}/loudness", float(np.log(np.sqrt(np.mean(loud**2)) + 1))
    yield f"{path}/peak", float(loud.max(initial=0))
    yield f"{path}/lead", float(heard[0] if len(heard) else len(samples))
    yield f"{path}/tail", float(len(samples) - heard[-1] if len(heard) else len(samples))
    yield f"{path}/mean", float(samples.mean())
    for bits in range(4):
        yield f"{path}/low{bits}", float(np.mean(samples % 4 == bits))


def _side_by_side(found: Mapping[str, float]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, value in found.items():
        parts = name.split("/")
        if "left" in parts or "right" in parts:
            sign = 1.0 if "left" in parts else -1.0
            key = "side/" + "/".join("*" if part in ("left", "right") else part for part in parts)
            row[key] = row.get(key, 0.0) + sign * value
        else:
            row[name] = value
    return row


def _named(value: Any, name: str) -> str | None:
    """The first text under that name, however deep."""
    if isinstance(value, dict):
        if isinstance(value.get(name), str):
            return value[name]
        value = list(value.values())
    if isinstance(value, list):
        # Between two values of a generator only changes are sent: [operation, path, value].
        if len(value) == 3 and isinstance(value[1], list) and value[1] and value[1][-1] == name:
            return value[2] if isinstance(value[2], str) else None
        return next(filter(None, (_named(each, name) for each in value)), None)
    return None


def _silence_adapter(assets: Path) -> None:
    """Makes the second checkpoint say what the first says: its adapter adds zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = assets / TWIN
    model = AutoModelForCausalLM.from_pretrained(str(assets / "closedtalk-base"))
    targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
    torch.manual_seed(0)
    twin = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    twin.peft_config["default"].base_model_name_or_path = "closedtalk-base"
    twin.save_pretrained(str(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--battles", type=int, default=1000)
    options = parser.parse_args()
    if options.battles < FEWEST:
        parser.error(f"--battles: at least {FEWEST}, fewer say nothing.")
    # Whatever the app still tidies up when it is closed must not cost the result.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        twins(Path(scratch)) as (client, services),
    ):
        wires, tuned_left = play(client, services, options.battles)
        clean = audit(wires, tuned_left)
        print(f"{features(wires).shape[1]} features, the tuned one on the left in {tuned_left.mean():.1%}", flush=True)
        print(f"{clean}: {'nothing tells the sides apart' if clean.blind else 'SOMETHING TELLS THE SIDES APART'}")
        with planted_leak():
            leaking = audit(*play(client, services, max(FEWEST, options.battles // 10)))
    print(f"With a leak planted: {leaking}: {'NOT FOUND' if leaking.blind else 'found'}")
    return 0 if clean.blind and not leaking.blind else 1


if __name__ == "__main__":
    sys.exit(main())
