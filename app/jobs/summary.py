"""A run in one line: how far it is, how long it still takes, what became better and worse, what is alarming."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.jobs.alarms import alarms
from app.jobs.estimate import cost, time_left
from app.jobs.job import ACTIVE, Job
from app.jobs.series import Series
from wavalign.training.config import ConfigError, HybridMethod, TrainConfig
from wavalign.training.config_files import load_config
from wavalign.training.journal import ADAPTER, CONFIG

_STALLED_SECONDS = 120.0


@dataclass
class Run:
    """A run's folder as it was read so far. ``config`` is None, and ``broken`` says why, where it cannot be read."""

    folder: Path
    series: Series
    config: TrainConfig | None
    broken: str | None = None


class RunBook:
    """Keeps what was read of each run, for all visitors: a look costs what was added since the last."""

    def __init__(self) -> None:
        self._runs: dict[Path, Run] = {}
        self._lock = threading.Lock()

    def run(self, folder: Path, until: float = math.inf) -> Run:
        """With what was added since the last look, as far as it can be read until that moment."""
        with self._lock:
            run = self._runs.get(folder)
            if run is None:
                config, broken = None, None
                try:
                    config = load_config(folder / CONFIG)
                except ConfigError as error:
                    broken = str(error)
                run = Run(folder, Series(folder), config, broken)
                if config is not None:
                    self._runs[folder] = run
        run.series.read(until)
        return run

    def forget(self, folder: Path) -> None:
        with self._lock:
            self._runs.pop(folder, None)


def summary(job: Job, run: Run, place: int | None = None) -> dict[str, Any]:
    """The run's line, as plain JSON."""
    series, config = run.series, run.config
    steps = config.steps if config else 0
    line: dict[str, Any] = {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "reason": job.reason or run.broken,
        "recipe": method_words(config) if config else "?",
        "base": config.base if config else "?",
        "launcher": job.launcher,
        "step": series.steps,
        "steps": steps,
        "minutes": job.minutes,
        "attempt": job.attempt,
        "asked": job.asked,
        "priority": job.priority,
        "place": place,
        "at": job.at,
        "started": job.started,
        "ended": job.ended,
        "notes": job.notes,
        "parent": job.parent,
        "promoted": job.promoted,
        "left": _left(job, run),
        "semantic": _change(series, "eval/semantic/accuracy", 100),
        "wer": _change(series, "eval/acoustic/wer", 100),
        "delivery": _change(series, "eval/acoustic/delivery", 100),
        "alarms": [each.sentence for each in alarms(series, config.evaluation.guard if config else None)],
        "promotable": job.is_final and (run.folder / ADAPTER).is_dir(),
        "resumable": job.is_final and not (job.state == "completed" and job.minutes is None),
        "version": series.version,
    }
    if job.state == "running" and (still := _stalled(job, series)):
        line["alarms"].insert(0, still)
    return line


def method_words(config: TrainConfig) -> str:
    """What is learned, in a few words: the kind of method with what tells it apart."""
    method = config.method
    if not isinstance(method, HybridMethod):
        return f"DPO, {method.scope}"
    if not method.samples:
        return "SFT"
    scope = {"text": "words", "all": "all tokens", "routed": "routed"}[method.preference.scope]
    if not method.demonstrates:
        return f"{method.preference.objective.upper()}, {scope}"
    return f"{method.mix.kind} mix, {scope}"


def _left(job: Job, run: Run) -> str | None:
    if job.state not in ACTIVE or run.config is None:
        return None
    _, times = run.series.get("time")
    trained = float(times[-1] - max(times[0], job.started or 0.0)) if len(times) else 0.0
    span = time_left(run.series, run.config.steps, run.config.evaluation.every, job.minutes, max(0.0, trained))
    if span is None:
        return None
    rented = job.handle or {}
    if "usd_a_minute" not in rented:
        return span.words()
    ago = [time.time() - each for each in (float(times[0]), job.started or float(times[0]))]
    return f"{span.words()} · {cost(span, *ago, rented['usd_a_minute'], rented['most_usd']).dollars()}"


def _change(series: Series, name: str, scale: float) -> dict[str, float] | None:
    """The latest value, and what it is more than before training."""
    _, values = series.get(name)
    if not len(values):
        return None
    return {"now": round(scale * float(values[-1]), 1), "change": round(scale * float(values[-1] - values[0]), 1)}


def _stalled(job: Job, series: Series) -> str | None:
    _, times = series.get("time")
    _, took = series.get("step_time")
    last = max(float(times[-1]) if len(times) else 0.0, job.started or 0.0)
    typical = float(sorted(took)[len(took) // 2]) if len(took) else 30.0
    quiet = time.time() - last
    if quiet < max(_STALLED_SECONDS, 10 * typical):
        return None
    return f"No step for {quiet / 60:.0f} minutes, where one takes {typical:.0f} s. Look at the log."
