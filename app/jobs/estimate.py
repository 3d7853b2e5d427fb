"""How long a job will still take, as a range, from the steps that it has taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.jobs.series import Series

CALIBRATION = 3
"""Steps before anything is said; the first one, which warms caches up, is not counted."""
_RECENT = 200
_LEAST_DOUBT = 0.05


@dataclass(frozen=True)
class Span:
    """From ``low`` to ``high``: seconds, or US dollars."""

    low: float
    high: float

    def words(self) -> str:
        low, high = _clock(self.low), _clock(self.high)
        return f"{low} left" if low == high else f"{low} to {high} left"

    def dollars(self) -> str:
        low, high = f"${self.low:.2f}", f"${self.high:.2f}"
        return f"{low} in all" if low == high else f"{low} to {high} in all"


def time_left(
    series: Series, steps: int, every: int = 0, minutes: float | None = None, trained_s: float = 0.0
) -> Span | None:
    """Seconds to the last of ``steps``, or to the end of a budget of ``minutes``, whichever comes first.

    ``every`` steps there is an evaluation; ``trained_s`` is how long this start has trained. The range holds the
    mean step as far as the steps so far tell it (two standard errors, at least 5 %), plus what evaluations took.
    None before three steps.
    """
    _, took = series.get("step_time")
    if len(took) < CALIBRATION:
        return None
    left = max(0, steps - series.steps)
    recent = took[1:][-_RECENT:]
    mean = float(recent.mean())
    doubt = max(2 * float(recent.std(ddof=1)) / np.sqrt(len(recent)), _LEAST_DOUBT * mean) if len(recent) > 1 else mean
    pauses = _pauses(series)
    evaluations = _evaluations(series.steps, steps, every) if every and left else 0
    low = left * max(0.0, mean - doubt) + evaluations * (min(pauses) if pauses else 0.0)
    high = left * (mean + doubt) + evaluations * (max(pauses) if pauses else 0.0)
    if minutes is not None:
        budget = max(0.0, 60 * minutes - trained_s)
        low, high = min(low, budget), min(high, budget)
    return Span(low, high)


def cost(span: Span, since_first_step_s: float, since_start_s: float, a_minute: float, most: float) -> Span:
    """US dollars that a rented run costs in the end: what it has cost so far and what ``span`` will, at most ``most``.

    The machine is paid from some moment between the job's start and its first step.
    """
    low, high = a_minute * (since_first_step_s + span.low) / 60, a_minute * (since_start_s + span.high) / 60
    return Span(min(low, most), min(high, most))


def _evaluations(done: int, steps: int, every: int) -> int:
    """How many are to come: at every multiple, and after the last step."""
    return steps // every - done // every + (1 if steps % every else 0)


def _pauses(series: Series) -> list[float]:
    """What evaluations took: the time between two rows beyond the step itself, where the row holds an evaluation."""
    steps, times = series.get("time")
    took = dict(zip(*(each.tolist() for each in series.get("step_time")), strict=True))
    names = [name for name in series.names if name.startswith("eval/")]
    evaluated = set(series.get(names[0])[0].tolist()) if names else set()
    pauses = []
    for before, now, step in zip(times[:-1], times[1:], steps[1:].tolist(), strict=True):
        if step in evaluated and step in took and 0 <= now - before - took[step] < 3600:
            pauses.append(float(now - before - took[step]))
    return pauses[-5:]


def _clock(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"
