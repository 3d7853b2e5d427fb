"""The panels of a run as plotly figures in plain JSON: what is drawn where, in which unit, and each run's curves.

A panel's layout and a run's traces are made apart, so that a page which has the traces of ten finished runs asks for
those of the one that is still growing only. A run has one colour on every panel; its curves differ by their dash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.jobs.series import Series, smoothed, thinned

COLOURS = ("#14938a", "#d9730d", "#2b7fd4", "#a04ac2", "#c2334d", "#6b7d1e", "#0e7fa8", "#b0761a", "#5b6bd6", "#7b8992")
POINTS = 500
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_FEWEST_MARKED = 40
"""Up to so many points are marked: an evaluation is a point, not a line."""


@dataclass(frozen=True)
class Curve:
    """``metric`` may end in ``*``: every metric that fits, labelled by what the star stands for."""

    metric: str
    label: str
    scale: float = 1.0
    right: bool = False


@dataclass(frozen=True)
class Panel:
    """``right`` is the unit of a second axis. ``hint`` says how to read it."""

    id: str
    title: str
    unit: str
    curves: tuple[Curve, ...]
    right: str = ""
    hint: str = ""
    span: tuple[float, float] | None = None


PANELS: tuple[Panel, ...] = (
    Panel(
        "reward",
        "Reward",
        "1 to 5",
        (Curve("reward", "mean"), Curve("reward_std", "spread in a group"), Curve("rewards/*/mean", "*")),
        hint="Of the sampled replies. It is what is trained: look at the held-out panels too.",
    ),
    Panel(
        "mix",
        "λ and its gates",
        "weight",
        (
            Curve("mix/lambda", "λ"),
            Curve("mix/reward_gate", "direction gate"),
            Curve("mix/info_gate", "information gate"),
            Curve("mix/lambda_speech", "λ of speech"),
        ),
        hint="λ is the weight of the reward's term; demonstrations get the rest. Speech may have a λ of its own.",
    ),
    Panel(
        "losses",
        "Losses",
        "nats a token",
        (
            Curve("loss/sft_speech", "demonstrated speech"),
            Curve("loss/sft_text", "demonstrated words"),
            Curve("loss/rl", "reward's term", right=True),
            Curve("loss/preference", "preferred reply"),
        ),
        right="reward's term",
        hint="The reward's term is near 0 on fresh samples by design; its gradient is not.",
    ),
    Panel(
        "pairs",
        "Preferred replies",
        "%",
        (
            Curve("rewards/accuracies", "found likelier than the other", 100),
            Curve("rewards/margins", "by how much", right=True),
        ),
        right="implicit reward",
        hint="Of the pairs in the batch, against the reference. 50 % is chance.",
    ),
    Panel(
        "kl",
        "Distance from the base (KL)",
        "nats a token",
        (
            Curve("eval/kl/text", "words"),
            Curve("eval/kl/speech", "speech"),
            Curve("kl/text", "words in training"),
            Curve("kl/speech", "speech in training"),
        ),
        hint="Of held-out replies; in training too where the divergence has a weight, or pairs are compared.",
    ),
    Panel(
        "entropy",
        "Entropy",
        "nats a token",
        (
            Curve("eval/entropy/text", "words"),
            Curve("eval/entropy/speech", "speech"),
            Curve("entropy/text", "words in training"),
            Curve("entropy/speech", "speech in training"),
        ),
        hint="Of held-out replies, and of those sampled in training. Near 0: replies become alike.",
    ),
    Panel(
        "semantic",
        "Held-out: right answers",
        "%",
        (Curve("eval/semantic/accuracy", "right", 100), Curve("eval/semantic/score", "score, 1 to 5", right=True)),
        right="score",
        hint="Fixed prompts, fixed seeds. Higher is better.",
    ),
    Panel(
        "acoustic",
        "Held-out: speech",
        "%",
        (
            Curve("eval/acoustic/wer", "word error rate", 100),
            Curve("eval/acoustic/delivery", "fitting delivery", 100),
            Curve("eval/acoustic/finished", "replies that end", 100),
        ),
        hint="Word errors of the speech against its own text: lower is better. Delivery: higher.",
    ),
    Panel(
        "voice",
        "Held-out: voice",
        "semitones",
        (
            Curve("eval/acoustic/f0_sd", "spread of pitch"),
            Curve("eval/acoustic/rate", "articulation rate", right=True),
        ),
        right="letters a second",
        hint="Neither higher nor lower is better: a change is what to listen for.",
    ),
    Panel(
        "level",
        "Held-out: level",
        "dB",
        (Curve("eval/acoustic/energy_sd", "spread of level"), Curve("eval/acoustic/energy", "level", right=True)),
        right="dB of full scale",
        hint="Of spoken replies to the same prompts. A change is what to listen for.",
    ),
    Panel(
        "pauses",
        "Held-out: pauses and length",
        "% of the time",
        (
            Curve("eval/acoustic/pause_ratio", "pauses", 100),
            Curve("eval/acoustic/seconds", "length", right=True),
        ),
        right="seconds",
        hint="Of spoken replies to the same prompts.",
    ),
    Panel(
        "guards",
        "Guards: worse than before training by",
        "own unit",
        (
            Curve("guard/*", "*"),
            Curve("completions/clipped_ratio", "cut-off replies", right=True),
            Curve("rewards/*/failed_frac", "failed: *", right=True),
            Curve("skipped_steps", "skipped steps", right=True),
        ),
        right="share",
        hint="What the reward does not see. Above 0 is worse.",
    ),
    Panel(
        "served",
        "Replies from the server",
        "ratio",
        (
            Curve("rollouts/ratio_mean", "importance ratio"),
            Curve("rollouts/staleness", "updates behind"),
            Curve("rollouts/ratio_truncated", "ratio cut off", 100, right=True),
            Curve("rollouts/failed_frac", "did not come", 100, right=True),
        ),
        right="%",
        hint="The trainer's probability of a token over the one it was drawn with. Fresh replies have 1.",
    ),
    Panel("length", "Length of replies", "tokens", (Curve("completions/mean_length", "mean"),)),
    Panel(
        "speed",
        "Step time and memory",
        "seconds",
        (
            Curve("step_time", "a step"),
            Curve("memory/rss_gb", "peak memory (GB)", right=True),
            Curve("memory/gpu_gb", "peak GPU memory (GB)", right=True),
        ),
        right="GB",
    ),
)


def layout(panel: Panel) -> dict[str, Any]:
    """A panel without data; ``uirevision`` is constant, so a zoom stays while curves grow."""
    grid = "rgba(128,144,152,0.22)"
    axis = {"gridcolor": grid, "zeroline": False, "ticks": "", "linecolor": grid, "nticks": 6, "automargin": True}
    axis |= {"tickmode": "auto", "exponentformat": "power"}
    made: dict[str, Any] = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif", "size": 12},
        "margin": {"l": 46, "r": 14, "t": 6, "b": 34},
        "height": 230,
        "showlegend": False,
        "hovermode": "x unified",
        "uirevision": panel.id,
        "xaxis": {**axis, "title": {"text": "step", "standoff": 4}, "rangemode": "tozero"},
        "yaxis": {**axis, "title": {"text": panel.unit, "standoff": 6}},
    }
    if panel.right:
        made["yaxis2"] = {**axis, "title": {"text": panel.right, "standoff": 6}, "overlaying": "y", "side": "right"}
        made["yaxis2"] |= {"showgrid": False, "nticks": 5}
        made["margin"]["r"] = 50
    return made


def panels() -> list[dict[str, Any]]:
    """Everything about the panels that does not depend on a run."""
    return [{"id": p.id, "title": p.title, "hint": p.hint, "layout": layout(p)} for p in PANELS]


def traces(
    series: Series, name: str, colour: str, memory: float = 0.0, points: int = POINTS
) -> dict[str, list[dict[str, Any]]]:
    """The curves of one run by panel; ``memory`` smooths those of many points, with the raw line faint behind."""
    found: dict[str, list[dict[str, Any]]] = {}
    metrics = series.names
    for panel in PANELS:
        curves = [each for curve in panel.curves for each in _expanded(curve, metrics)]
        drawn: list[dict[str, Any]] = []
        for place, curve in enumerate(curves):
            steps, values = series.get(curve.metric)
            if not len(values):
                continue
            values = values * curve.scale
            style = {"color": colour, "width": 2, "dash": _DASHES[place % len(_DASHES)]}
            few = len(values) <= _FEWEST_MARKED
            if memory > 0 and not few:
                drawn.append(_trace(steps, values, "", {**style, "width": 1}, curve, points, opacity=0.25))
                values = smoothed(values, memory)
            label = f"{name}: {curve.label}"
            strength = max(0.5, 1 - 0.14 * place)  # the curve that comes first is the one to look at
            drawn.append(_trace(steps, values, label, style, curve, points, marked=few, opacity=strength))
        if drawn:
            found[panel.id] = drawn
    return found


def _trace(
    steps: np.ndarray,
    values: np.ndarray,
    label: str,
    line: dict[str, Any],
    curve: Curve,
    points: int,
    marked: bool = False,
    opacity: float = 1.0,
) -> dict[str, Any]:
    steps, values = thinned(steps, values, points)
    trace: dict[str, Any] = {
        "type": "scatter",
        "x": steps.astype(int).tolist(),
        "y": _short(values),
        "name": label,
        "mode": "lines+markers" if marked else "lines",
        "line": line,
        "opacity": opacity,
        "legendgroup": curve.label,
    }
    if marked:
        trace["marker"] = {"size": 5, "color": line["color"]}
    if curve.right:
        trace["yaxis"] = "y2"
    if not label:
        trace["hoverinfo"] = "skip"
    return trace


def _expanded(curve: Curve, metrics: Sequence[str]) -> list[Curve]:
    if "*" not in curve.metric:
        return [curve]
    before, _, after = curve.metric.partition("*")
    found = []
    for name in metrics:
        middle = name[len(before) : len(name) - len(after)]
        if name.startswith(before) and name.endswith(after) and middle and "/" not in middle:
            label = curve.label.replace("*", middle.replace("_", " "))
            found.append(Curve(name, label, curve.scale, curve.right))
    return found


def _short(values: np.ndarray) -> list[float]:
    """Five significant digits: what a screen can show, in half of the bytes."""
    magnitude = np.floor(np.log10(np.maximum(np.abs(values), 1e-12)))
    factor = 10.0 ** (4 - magnitude)
    return (np.round(values * factor) / factor).tolist()
