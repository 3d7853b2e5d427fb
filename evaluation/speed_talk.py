"""What a person at the Talk page waits for: the first sound, the whole reply, and the start of the app.

The cold start runs ``python app.py`` as a process of its own and asks a typed question over HTTP, as the page does,
as soon as the page is up; it ends when the first sound of the reply has arrived.
"""

from __future__ import annotations

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluation.figures import Figure, Section, Target
from evaluation.speed_timing import SpeedOptions
from wavalign import audio
from wavalign.dialogue import Dialogue, Turn
from wavalign.models.interleaved import InterleavedModel

REPOSITORY = Path(__file__).resolve().parent.parent
QUESTION = "what is seven plus five"
_PATIENCE_SECONDS = 120.0


def talk(options: SpeedOptions) -> Section:
    """``first_audio_fraction``, ``real_time_factor`` and ``cold_start_seconds``."""
    model = options.model()
    dialogues, kind = _dialogues(options.assets)
    fractions, shares, factors, firsts = [], [], [], []
    for turn in range(options.turns + 1):
        for dialogue in dialogues:
            first, whole, spoken = _timed(model, dialogue, seed=turn)
            if turn and first is not None and spoken > 0:
                fractions.append(first / spoken)
                shares.append(first / whole)
                factors.append(whole / spoken)
                firsts.append(first)
    if not fractions:
        raise RuntimeError(f'"{options.checkpoint}" said nothing: its replies hold no speech.')
    note = f"{len(dialogues)} {kind} questions, one reply at a time"
    return Section(
        "Talking",
        (
            Figure("first_audio_fraction", "wait for the first sound, of the reply's length",
                   statistics.median(fractions), n=len(fractions), target=Target(high=0.15), note=note),
            Figure("first_audio_of_making", "the same, of the time to make the whole reply",
                   statistics.median(shares), n=len(shares), note="a short reply is made soon after its first chunk"),
            Figure("real_time_factor", "time to make a reply, of its length", statistics.median(factors),
                   n=len(factors), target=Target(high=0.25), note=note),
            Figure("first_audio_seconds", "first sound", statistics.median(firsts), "s", n=len(firsts)),
            Figure("cold_start_seconds", "python app.py to the first sound of a reply", cold_start(options), "s",
                   target=Target(high=12.0)),
        ),
    )  # fmt: skip


def _dialogues(assets: Path) -> tuple[list[Dialogue], str]:
    """The shipped spoken examples, or typed questions where there are none."""
    spoken = [Dialogue((Turn("user", speech=audio.read(path)),)) for path in sorted(assets.glob("examples/*.ogg"))[:6]]
    return (spoken, "spoken") if spoken else ([Dialogue((Turn("user", text=QUESTION),))], "typed")


def _timed(model: InterleavedModel, dialogue: Dialogue, seed: int) -> tuple[float | None, float, float]:
    """Seconds to the first sound and to the end of one reply, and the length of its speech."""
    model.base.prompter.forget()
    started = time.perf_counter()
    first = None
    stream = model.reply(dialogue, replace(model.default_sampling, seed=seed))
    while True:
        try:
            chunk = next(stream)
        except StopIteration as end:
            return first, time.perf_counter() - started, end.value.waveform.seconds
        if first is None and chunk.waveform is not None:
            first = time.perf_counter() - started


def cold_start(options: SpeedOptions) -> float:
    """Seconds from starting ``python app.py`` to the first sound of a reply.

    Raises:
        RuntimeError: with the end of its log, when the app ends or nothing is heard in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        log = Path(home) / "app.log"
        environment = os.environ | {
            "WAVALIGN_HOME": home,
            "WAVALIGN_ASSETS": str(options.assets.resolve()),
            "WAVALIGN_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        started = time.perf_counter()
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            address = f"http://127.0.0.1:{port}"
            config = _config(address, process, started)
            _hear(address, config, started)
            return time.perf_counter() - started
        except (RuntimeError, OSError) as error:
            raise RuntimeError(f"{error} The app's log ends with:\n{log.read_text()[-2000:]}") from error
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _config(address: str, process: subprocess.Popen, started: float) -> dict[str, Any]:
    """The page's description, as soon as the app serves it."""
    while time.perf_counter() - started < _PATIENCE_SECONDS:
        if process.poll() is not None:
            raise RuntimeError("The app ended before it was up.")
        try:
            with urllib.request.urlopen(f"{address}/config", timeout=5) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError("The app did not come up in time.")


def _hear(address: str, config: dict[str, Any], started: float) -> None:
    """Submits the question box with every other input at its default; returns at the first sound."""
    components = {component["id"]: component["props"] for component in config["components"]}
    box = next(number for number, props in components.items() if props.get("elem_id") == "question")
    event = next(each for each in config["dependencies"] if [box, "submit"] in [list(t) for t in each["targets"]])
    values = [QUESTION if number == box else components[number].get("value") for number in event["inputs"]]
    api = f"{address}{config.get('api_prefix', '')}"
    told = {"data": values, "fn_index": event["id"], "trigger_id": box, "session_hash": "coldstart", "event_data": None}
    request = urllib.request.Request(
        f"{api}/queue/join", json.dumps(told).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=30).close()
    with urllib.request.urlopen(f"{api}/queue/data?session_hash=coldstart", timeout=_PATIENCE_SECONDS) as stream:
        for line in stream:
            message = line.decode(errors="replace")
            if _sounds(message):
                return
            if '"process_completed"' in message or time.perf_counter() - started > _PATIENCE_SECONDS:
                raise RuntimeError(f"No sound came: {message[:500]}")
    raise RuntimeError("The app closed the connection before any sound came.")


def _sounds(message: str) -> bool:
    """Whether an update carries audio: the live reply's list of pieces is no longer empty, or its file is there."""
    return bool(re.search(r'"chunks"(:\s*\["|,\s*\d+\])|"peaks"', message))
