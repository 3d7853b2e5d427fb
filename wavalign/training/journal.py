"""A run's folder: what is written there, by whom it is read, and in which order.

config.yaml          every field of the run's config
metrics.jsonl        one line a step, append-only: step, attempt, time and metrics
events.jsonl         what happened: started, resumed, evaluated, saved, skipped, stopped, ...
samples/step-N/      wav and text of the same held-out prompts at each evaluation
checkpoints/step-N/  the state, its manifest written last
attempts/00k/        output.log of each start of the run
adapter/             the result: a plain PEFT folder (or a base's, after full fine-tuning)
heartbeat.json       who trains, since when, and when it last took a step
control.json         {"stop": true} asks for a save and an end
training.lock        held by the process that trains
result.json          the last act: status, reason, step
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CONFIG, METRICS, EVENTS, RESULT = "config.yaml", "metrics.jsonl", "events.jsonl", "result.json"
CONTROL, HEARTBEAT, CHECKPOINTS, SAMPLES, ADAPTER = (
    "control.json",
    "heartbeat.json",
    "checkpoints",
    "samples",
    "adapter",
)
ATTEMPT_VARIABLE = "WAVALIGN_ATTEMPT"
"""A launcher that already writes attempts/00k/output.log names k here."""


class Journal:
    """Writes one run's folder. ``attempt`` counts the starts of the run, from 1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        told = os.environ.get(ATTEMPT_VARIABLE)
        self.attempt = (
            int(told) if told else 1 + max((int(p.name) for p in (folder / "attempts").glob("[0-9]*")), default=0)
        )
        self.attempt_folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)
        self._started = time.time()

    @property
    def attempt_folder(self) -> Path:
        return self.folder / "attempts" / f"{self.attempt:03d}"

    @property
    def log_is_written(self) -> bool:
        """Whether a launcher already writes output.log."""
        return bool(os.environ.get(ATTEMPT_VARIABLE))

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line; what is not finite is named and left out, so that every line is JSON for everybody."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        line: dict[str, Any] = {"step": step, "attempt": self.attempt, "time": round(time.time(), 3), **finite}
        if len(finite) < len(metrics):
            line["non_finite"] = sorted(set(metrics) - set(finite))
        self._append(METRICS, line)

    def event(self, kind: str, **facts: Any) -> None:
        self._append(EVENTS, {"time": round(time.time(), 3), "attempt": self.attempt, "event": kind, **facts})

    def heartbeat(self, step: int) -> None:
        """Says that process ``pid``, started at ``started``, is alive at ``time``."""
        beat = {"pid": os.getpid(), "started": self._started, "time": time.time(), "step": step}
        _whole(self.folder / HEARTBEAT, beat)

    def asked_to_stop(self) -> bool:
        return asked_to_stop(self.folder)

    def answered_stop(self) -> None:
        """The request is carried out: a later start of the run is not stopped by it."""
        (self.folder / CONTROL).unlink(missing_ok=True)

    def result(self, status: str, reason: str, step: int, **facts: Any) -> None:
        """The last act. ``status``: completed, stopped or failed."""
        _whole(
            self.folder / RESULT,
            {"status": status, "reason": reason, "step": step, "attempt": self.attempt, "time": time.time(), **facts},
        )

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        # One write of one line: a reader sees it whole, and a kill cuts the last line at most.
        data = (json.dumps(line) + "\n").encode()
        path = self.folder / name
        with path.open("ab") as stream:
            if stream.tell() and not _ends_with_newline(path):
                data = b"\n" + data
            stream.write(data)


def asked_to_stop(folder: Path) -> bool:
    """Whether a request to stop lies in a run's folder."""
    try:
        return bool(json.loads((folder / CONTROL).read_text(encoding="utf-8")).get("stop"))
    except (OSError, ValueError, AttributeError):
        return False


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl by step; of a step that was taken again after a resume, the last attempt's."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in read_lines(folder / METRICS):
        by_step[line["step"]] = line
    return [by_step[step] for step in sorted(by_step)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSON-lines file; a line that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _whole(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
