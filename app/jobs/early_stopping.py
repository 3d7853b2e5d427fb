"""Ends a job that asked for it: on a serious alarm, or when held-out figures have long stopped getting better."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.jobs.alarms import alarms
from app.jobs.job import GENTLY
from app.jobs.series import Series
from app.jobs.supervise import Asked
from wavalign.training.config import ConfigError
from wavalign.training.config_files import load_config
from wavalign.training.journal import CONFIG

HELD_OUT = "eval/semantic/accuracy"
_LOOK_SECONDS = 5.0


def watchful(folder: Path, settings: Mapping[str, Any]) -> Callable[[], Asked | None]:
    """Looks at a run every few seconds, with a reason to stop it once there is one.

    Of ``settings``: ``stop_on_alarm``, and ``patience``, the evaluations in a row that may bring nothing better.
    """
    on_alarm, patience = bool(settings.get("stop_on_alarm")), int(settings.get("patience") or 0)
    if not on_alarm and not patience:
        return lambda: None
    series = Series(folder)
    try:
        allowed: Mapping[str, float] = load_config(folder / CONFIG).evaluation.guard
    except ConfigError:
        allowed = {}  # the trainer, which reads it too, says what is wrong with it
    looked = float("-inf")
    found: Asked | None = None

    def look() -> Asked | None:
        nonlocal looked, found
        now = time.monotonic()
        if found is None and now - looked >= _LOOK_SECONDS:
            looked = now
            reason = _alarm(series.read(), allowed) if on_alarm else None
            reason = reason or (_exhausted(series.read(), patience) if patience else None)
            found = Asked(GENTLY, reason) if reason else None
        return found

    return look


def _alarm(series: Series, allowed: Mapping[str, float]) -> str | None:
    first = next((each.sentence for each in alarms(series, allowed) if each.serious), None)
    return None if first is None else f"an alarm was raised. {first}".rstrip(".")


def _exhausted(series: Series, patience: int) -> str | None:
    """Why to stop where the last ``patience`` evaluations are no better than the best one before them."""
    steps, values = series.get(HELD_OUT)
    if len(values) <= patience:
        return None
    best = int(values[:-patience].argmax())
    if values[-patience:].max() > values[best]:
        return None
    times = "one evaluation" if patience == 1 else f"{patience} evaluations"
    return f"held-out right answers have not risen above the {values[best]:.0%} of step {steps[best]:.0f} in {times}"
