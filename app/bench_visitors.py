"""Many visitors at once: ``python -m app.bench_visitors [--visitors 50] [--turns 1] [--json]``.

The app is started as a Space starts it, a process of its own, with the embedded model. Every visitor has a network
address and a tab of their own, opens Talk, asks a typed question as the page's script would (the queue and its event
stream) and waits for both replies. Who is told that too many wait comes back a few seconds later, as a person would.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from gradio_client.utils import apply_diff

from wavalign.arguments import number, whole

QUESTIONS = (
    "what is seven plus five",
    "what is the capital of france",
    "what is the opposite of hot",
    "what does a cow say",
    "what is the day after monday",
)
COMES_BACK_SECONDS = (4.0, 9.0)
_APP = Path(__file__).resolve().parent.parent / "app.py"
_BUSY, _WAITING, _NEXT = "wait already", "before you", "You are next"


class BenchError(RuntimeError):
    """It could not be measured; the message is one sentence."""


@dataclass
class Visit:
    """One question of one visitor. Seconds from pressing Enter for the first time."""

    began: float
    wait: float | None = None
    """Until nobody was before them any more."""
    first_text: float | None = None
    whole: float | None = None
    places: list[int] = field(default_factory=list)
    """How many they were told are before them."""
    turned_away: int = 0
    failure: str | None = None


def run(visitors: int, turns: int, seconds: float) -> dict[str, Any]:
    """Figures of a run: counts, seconds, megabytes.

    Raises:
        BenchError: when the app does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="visitors-") as home, _app(Path(home), seconds) as (address, memory):
        at_rest = memory.now()
        visits = asyncio.run(_all(address, visitors, turns, seconds))
        peak = memory.peak
    answered = [each for each in visits if each.whole is not None]
    return {
        "visitors": visitors,
        "questions": len(visits),
        "answered": len(answered),
        "not_answered_in_time": sum(each.whole is None and each.failure is None for each in visits),
        "failures": sorted(each.failure for each in visits if each.failure),
        "told_to_come_back": sum(each.turned_away for each in visits),
        "told_their_place": sum(bool(each.places) for each in visits),
        "longest_line_told": max((place for each in visits for place in each.places), default=0),
        "wait_seconds": _percentiles([each.wait for each in answered]),
        "first_text_seconds": _percentiles([each.first_text for each in answered]),
        "whole_seconds": _percentiles([each.whole for each in answered]),
        "megabytes_before": round(at_rest / 1e6),
        "megabytes_peak": round(peak / 1e6),
    }


async def _all(address: str, visitors: int, turns: int, seconds: float) -> list[Visit]:
    """Whoever is not answered in time is no failure, and is not answered."""
    visits: list[Visit] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=address, timeout=seconds, limits=limits) as client:
        coming = [asyncio.create_task(_visitor(client, place, turns, visits)) for place in range(visitors)]
        _, waiting = await asyncio.wait(coming, timeout=seconds)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return visits


async def _visitor(client: httpx.AsyncClient, place: int, turns: int, visits: list[Visit]) -> None:
    own = {"x-forwarded-for": f"198.18.{place // 250}.{place % 250 + 1}"}
    session, chance = secrets.token_hex(6), random.Random(place)
    for turn in range(turns):
        visit = Visit(time.monotonic())
        visits.append(visit)
        try:
            for page in ("/", "/config"):
                opened = await client.get(page, headers=own)
                opened.raise_for_status()
            config = opened.json()
            while not await _asked(client, own, config, session, QUESTIONS[(place + turn) % len(QUESTIONS)], visit):
                visit.turned_away += 1
                await asyncio.sleep(chance.uniform(*COMES_BACK_SECONDS))
        except (httpx.HTTPError, BenchError, ValueError, KeyError) as error:
            visit.failure = f"{type(error).__name__}: {error}"


async def _asked(
    client: httpx.AsyncClient, own: dict[str, str], config: dict[str, Any], session: str, question: str, visit: Visit
) -> bool:
    """Whether it was answered; False when too many waited."""
    event = next(each for each in config["dependencies"] if each["api_name"] == "send_text")
    parts = {each["id"]: each["props"] for each in config["components"]}
    data = [question if parts[id].get("elem_id") == "question" else parts[id].get("value") for id in event["inputs"]]
    stage_at = next(place for place, id in enumerate(event["outputs"]) if parts[id].get("elem_id") == "stage")
    body = {"fn_index": event["id"], "data": data, "session_hash": session, "event_data": None, "trigger_id": None}
    joined = await client.post("/gradio_api/queue/join", json=body, headers=own)
    if joined.status_code != 200:
        raise BenchError(f"{joined.status_code} {joined.text[:200]}")
    outputs: list[Any] = []
    async with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}, headers=own) as lines:
        async for line in lines.aiter_lines():
            if not line.startswith("data: "):
                continue
            message = json.loads(line.removeprefix("data: "))
            if message["msg"] not in ("process_generating", "process_completed"):
                continue
            if not message["success"]:
                raise BenchError(str(message["output"].get("error")))
            outputs = _patched(outputs, message["output"].get("data") or [], message["msg"] == "process_generating")
            stage = _value(outputs[stage_at]) if len(outputs) > stage_at else None
            if isinstance(stage, dict) and not _seen(stage, visit):
                return False
            if message["msg"] == "process_completed":
                if not isinstance(stage, dict) or visit.first_text is None:
                    raise BenchError("no reply came")
                visit.whole = time.monotonic() - visit.began
                return True
    raise BenchError("the connection ended before the reply")


def _patched(outputs: list[Any], data: list[Any], generating: bool) -> list[Any]:
    """While a handler runs, every message but the first holds what changed."""
    if not generating:
        return data or outputs
    return data if not outputs else [apply_diff(old, new) for old, new in zip(outputs, data, strict=True)]


def _value(output: Any) -> Any:
    return output.get("value") if isinstance(output, dict) and output.get("__type__") == "update" else output


def _seen(stage: dict[str, Any], visit: Visit) -> bool:
    """Notes what the page shows; False when it says that too many wait."""
    now = time.monotonic() - visit.began
    if stage.get("error"):
        if _BUSY in stage["error"]:
            return False
        raise BenchError(stage["error"])
    status = stage.get("status") or ""
    if _WAITING in status or _NEXT in status:
        place = int(status.split(". ")[1].split()[0]) if _WAITING in status else 0
        if visit.places[-1:] != [place]:
            visit.places.append(place)
        return True
    exchanges = stage.get("exchanges") or []
    answers = exchanges[-1]["answers"].values() if exchanges else ()
    if any(each.get("text") for each in answers):
        visit.wait = now if visit.wait is None else visit.wait
        visit.first_text = now if visit.first_text is None else visit.first_text
    elif exchanges and visit.wait is None and visit.places:
        visit.wait = now
    return True


class _Memory(threading.Thread):
    """The resident memory of a process and all that it started, looked at a few times a second."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(process)
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.peak = max(self.peak, self.now())

    def now(self) -> int:
        """Bytes."""
        try:
            family = [self._process, *self._process.children(recursive=True)]
            return sum(each.memory_info().rss for each in family)
        except psutil.Error:
            return 0

    def stop(self) -> None:
        self._over.set()


@contextmanager
def _app(home: Path, seconds: float) -> Iterator[tuple[str, _Memory]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SPACE", "OAUTH", "SYSTEM"))
    }
    environment |= {
        "SPACE_ID": "bench/visitors",  # visitors' addresses come from the proxy, and nobody is the host
        "WAVALIGN_HOME": str(home),
        "WAVALIGN_LISTEN": "127.0.0.1",
        "WAVALIGN_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    log = (home / "app.log").open("w")
    process = subprocess.Popen([sys.executable, str(_APP)], env=environment, stdout=log, stderr=subprocess.STDOUT)
    memory = _Memory(process.pid)
    try:
        _until_ready(f"http://127.0.0.1:{port}", process, time.monotonic() + max(seconds, 120.0))
        memory.start()
        yield f"http://127.0.0.1:{port}", memory
    finally:
        memory.stop()
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _until_ready(address: str, process: subprocess.Popen, deadline: float) -> None:
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise BenchError("The app did not come up.")


def _percentiles(values: list[float | None]) -> dict[str, float]:
    known = sorted(each for each in values if each is not None)
    if not known:
        return {}
    if len(known) == 1:
        return {"p50": round(known[0], 2), "p95": round(known[0], 2)}
    cuts = statistics.quantiles(known, n=20, method="inclusive")
    return {"p50": round(statistics.median(known), 2), "p95": round(cuts[18], 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.bench_visitors", description=__doc__.splitlines()[0])
    parser.add_argument("--visitors", type=whole(1), default=50)
    parser.add_argument("--turns", type=whole(1), default=1, help="questions each, one after another")
    parser.add_argument("--seconds", type=number(10), default=210.0, help="how long all of it may take")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        found = run(options.visitors, options.turns, options.seconds)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            shown = "  ".join(f"{key} {each:g} s" for key, each in value.items()) if isinstance(value, dict) else value
            print(f"{name.replace('_', ' '):22} {shown}")
    return 1 if found["failures"] or found["answered"] < found["questions"] else 0


if __name__ == "__main__":
    sys.exit(main())
