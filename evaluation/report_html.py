"""A comparison as HTML: one file that needs nothing else, or a part of a page.

Everything that comes from data is escaped here. Sounds are put where ``sound`` says: inlined in a file, fetched when
they are asked for on a page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import soundfile

from evaluation import report_words as words
from evaluation.report_charts import MOST_AXES, Axis, Row, forest, legend, radar

STYLE = Path(__file__).with_name("report.css")
Json = Mapping[str, Any]
Sound = Callable[[str, str], str]
"""(path within the work folder, what it is) -> an HTML player."""
_DOCUMENT_STYLE = """
:root{color-scheme:light dark;--ink:#1b2226;--ink-soft:#5c6a72;--line:#e3e7ea;--surface:#fff;--accent:#0f766e;
--side-a:#1f6fc4;--side-b:#c2630a}
@media(prefers-color-scheme:dark){:root{--ink:#e6ebee;--ink-soft:#9aa8b0;--line:#2a3236;--surface:#181d20;
--accent:#2bb5a8;--side-a:#62a8f0;--side-b:#f0a050}}
body{margin:0;background:#f7f8f9;color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
@media(prefers-color-scheme:dark){body{background:#101416}}
main{max-width:1080px;margin:0 auto;padding:24px 20px 64px}
"""


def document(report: Json, work: Path) -> str:
    """The whole report as one file: style, charts and sounds inside, no script."""
    title = f"{' and '.join(report['plan']['checkpoints'])}: an evaluation"

    def inlined(path: str, what: str) -> str:
        data = _flac(work / path)
        if data is None:
            return '<p class="ev-soft">The recording is not there any more.</p>'
        encoded = base64.b64encode(data).decode("ascii")
        source = f"data:audio/flac;base64,{encoded}"
        return f'<audio controls preload="none" aria-label="{escape(what)}" src="{source}"></audio>'

    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_DOCUMENT_STYLE}{STYLE.read_text(encoding='utf-8')}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body(report, inlined)}</main></body></html>\n"
    )


def body(report: Json, sound: Sound) -> str:
    """What is between the title and the end, for a page that has the style sheet ``STYLE``."""
    parts = [_task(report, task, sound) for task in report["tasks"]]
    return f'<div class="ev">{"".join(parts)}{_about(report)}</div>'


def _task(report: Json, task: Json, sound: Sound) -> str:
    names = [each["name"] for each in report["checkpoints"]]
    others = names[1:]
    heads = "".join(f'<p class="ev-headline">{escape(words.headline(report, task, name))}</p>' for name in others)
    problem = f'<p class="ev-problem">Not scored: {escape(task["problem"])}</p>' if task["problem"] else ""
    axes, caption = _axes(task, names)
    spider = radar(axes, names)
    figure = f"<figure>{spider}{legend(names)}<figcaption>{caption}</figcaption></figure>" if spider else ""
    forests = "".join(_forests(task, name) for name in others)
    return (
        f'<section class="ev-task"><h2>{escape(task["name"])}</h2>{heads}'
        f'<p class="ev-soft">{escape(words.counted(task))}</p>{problem}{_failures(task)}'
        f'<div class="ev-overview">{figure}<div class="ev-whole">{forests}</div></div>'
        f"{_table(task, names)}{_summary(task, names)}"
        f"{''.join(_breakdowns(task, name) for name in others)}"
        f"{''.join(_regressions(task, name, sound) for name in others)}</section>"
    )


def _axes(task: Json, names: Sequence[str]) -> tuple[list[Axis], str]:
    """Metrics with a better end and a range; where there are fewer than three, the categories of the first metric."""
    axes = [axis for metric in task["metrics"] if (axis := _axis(metric, metric, words.label(metric["name"]), names))]
    if len(axes) >= 3:
        return axes[:MOST_AXES], "Outwards is better on every axis, from the worst to the best possible value."
    first = task["metrics"][0] if task["metrics"] else None
    groups = [g for g in first["groups"] if g["by"] == "category"] if first else []
    by_group = [axis for group in groups if (axis := _axis(first, group, group["name"], names))]
    return by_group[
        :MOST_AXES
    ], f"{escape(words.label(first['name']))} by category; outwards is better." if first else ""


def _axis(metric: Json, figures: Json, label: str, names: Sequence[str]) -> Axis | None:
    high = 1.0 if metric["unit"] == "%" and metric["high"] is None else metric["high"]
    if metric["better"] is None or metric["low"] is None or high is None:
        return None
    places, said = {}, {}
    for name in names:
        found = figures["checkpoints"][name]
        if found["value"] is not None:
            place = min(1.0, max(0.0, (found["value"] - metric["low"]) / (high - metric["low"])))
            places[name] = place if metric["better"] == "higher" else 1.0 - place
            said[name] = words.figure_short(found, metric["unit"])
    return Axis(label if metric["better"] == "higher" else f"{label} (low is out)", places, said) if places else None


def _row(label: str, found: Json, unit: str) -> Row:
    said = words.difference(found, unit)
    if found["verdict"] == "too few prompts":
        said = f"{said}, {found['verdict']}"
    kind = found["verdict"].partition(" ")[0]
    return Row(label, said, found["value"], found["low"], found["high"], kind)


def _forests(task: Json, name: str) -> str:
    """All shares in one chart, since they have one scale; the other metrics are in the table."""
    shares = [metric for metric in task["metrics"] if metric["unit"] == "%"]
    rows = [_row(words.label(metric["name"]), metric["differences"][name], "%") for metric in shares]
    if not rows:
        return ""
    return f"<h3>{escape(name)} against {escape(_base(task))}</h3>{forest(rows, 'points', 100.0)}"


def _table(task: Json, names: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    head += "".join(f'<th scope="col">{escape(name)} − {escape(names[0])}</th>' for name in names[1:])
    rows = []
    for metric in task["metrics"]:
        unit = metric["unit"]
        cells = "".join(f"<td>{_figure(metric['checkpoints'][name], unit)}</td>" for name in names)
        for name in names[1:]:
            found = metric["differences"][name]
            kind = found["verdict"].partition(" ")[0]
            said = escape(words.difference(found, unit))
            cells += f'<td data-kind="{kind}">{said}<small>{escape(words.mark(found["verdict"]))}</small></td>'
        about = f"{_range(metric)} {metric['caveat']}".strip()
        title = f'{escape(words.label(metric["name"]))}<small title="{escape(about)}">{escape(unit)}</small>'
        rows.append(f'<tr><th scope="row">{title}</th>{cells}</tr>')
    if not rows:
        return ""
    notes = "".join(
        f"<dt>{escape(words.label(metric['name']))}</dt><dd>{escape(_range(metric))} {escape(metric['caveat'])}.</dd>"
        for metric in task["metrics"]
    )
    return (
        f'<h3>Figures</h3><div class="ev-scroll"><table class="ev-table"><thead><tr><th></th>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="ev-soft">{escape(words.multiplicity(task))}</p>'
        f"<details><summary>What each measure says, and what not</summary><dl>{notes}</dl></details>"
    )


def _figure(found: Json, unit: str) -> str:
    said = f"{words.number(found['value'], unit)}<small>{escape(words.interval(found, unit).strip())}</small>"
    seeds = [value for value in found["by_seed"] if value is not None]
    if len(seeds) > 1:
        each = ", ".join(words.number(value, unit) for value in seeds)
        said += f'<small title="each sampling seed by itself">seeds {each}</small>'
    if found.get("failed"):
        said += f"<small>{found['failed']} failed</small>"
    return said


def _range(metric: Json) -> str:
    unit = metric["unit"]
    low, high = (None if end is None else words.number(end, unit) for end in (metric["low"], metric["high"]))
    ends = f"from {low}" if high is None else f"{low} to {high}" if low is not None else f"up to {high}"
    known = "" if low is None and high is None else f"{ends} {unit}".strip()
    better = {"higher": "higher is better", "lower": "lower is better", None: "neither end is better"}[metric["better"]]
    return f"{', '.join(part for part in (known, better) if part).capitalize()}:"


def _summary(task: Json, names: Sequence[str]) -> str:
    rows = ""
    for aggregate, found in task["summary"].items():
        cells = "".join(f"<td>{_aggregate(found['checkpoints'].get(name))}</td>" for name in names)
        cells += "".join(f"<td>{_aggregate(found['differences'].get(name))}</td>" for name in names[1:])
        rows += f'<tr><th scope="row">{escape(aggregate)}</th>{cells}</tr>'
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    head += "".join(f'<th scope="col">{escape(name)} − {escape(names[0])}</th>' for name in names[1:])
    return (
        '<h3>Official aggregates</h3><div class="ev-scroll"><table class="ev-table"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _aggregate(found: Json | None) -> str:
    if found is None:
        return words.NOTHING
    return f"{found['value']:.2f}<small>{escape(words.interval(found, '').strip())}</small>"


def _breakdowns(task: Json, name: str) -> str:
    """The headline metric by category, open; every other metric and breakdown folded."""
    charts = []
    for metric in task["metrics"]:
        scale, unit = (100.0 if metric["unit"] == "%" else 1.0), words.difference_unit(metric["unit"])
        by_breakdown = ""
        for by in dict.fromkeys(group["by"] for group in metric["groups"]):
            groups = [group for group in metric["groups"] if group["by"] == by]
            rows = [
                _row(f"{g['name']} · {g['differences'][name]['prompts']}", g["differences"][name], metric["unit"])
                for g in groups
            ]
            by_breakdown += f"<h4>by {escape(by)} · prompts</h4>{forest(rows, unit or 'difference', scale)}"
        if by_breakdown:
            opened = " open" if not charts else ""
            title = escape(words.label(metric["name"]))
            charts.append(f"<details{opened}><summary>{title}</summary>{by_breakdown}</details>")
    if not charts:
        return ""
    rest = f"<details><summary>The other measures</summary>{''.join(charts[1:])}</details>" if charts[1:] else ""
    return f"<h3>By kind of prompt, {escape(name)} against {escape(_base(task))}</h3>{charts[0]}{rest}"


def _base(task: Json) -> str:
    """What the others are compared with: the first checkpoint."""
    return next(iter(task["replies"]))


def _regressions(task: Json, name: str, sound: Sound) -> str:
    parts = []
    for metric, found in task["regressions"].get(name, {}).items():
        unit = next((each["unit"] for each in task["metrics"] if each["name"] == metric), "")
        items = "".join(_regression(entry, unit, metric, sound) for entry in found["list"])
        shown = f", the worst {len(found['list'])} here" if found["worse"] > len(found["list"]) else ""
        counts = (
            f"Of {found['prompts']} prompts {found['better']} better, {found['same']} the same, "
            f"{found['worse']} worse{shown}."
        )
        title = f"{escape(words.label(metric))}: worse on {found['worse']} of {found['prompts']} prompts"
        parts.append(
            f"<details{' open' if not parts else ''}><summary>{title}</summary>"
            f'<p class="ev-soft">{counts}</p><ol class="ev-lost">{items}</ol></details>'
        )
    return f"<h3>Where {escape(name)} got worse</h3>{''.join(parts)}" if parts else ""


def _regression(entry: Json, unit: str, metric: str, sound: Sound) -> str:
    sides = "".join(_side(name, reply, unit, metric, sound) for name, reply in entry["replies"].items())
    asked = f"“{escape(entry['question'])}”" if entry["question"] else escape(entry["item"])
    return (
        f'<li><p class="ev-asked">{asked} <small>{escape(entry["category"])} · {escape(entry["item"])}</small></p>'
        f'<div class="ev-both">{sides}</div></li>'
    )


def _side(name: str, reply: Json, unit: str, metric: str, sound: Sound) -> str:
    player = sound(reply["sound"], f"{name}'s reply") if reply["sound"] else '<p class="ev-soft">No sound.</p>'
    heard = f'<p class="ev-soft">heard: {escape(reply["transcript"])}</p>' if reply["transcript"] else ""
    value = f"{words.label(metric)} {words.number(reply['value'], unit)} {unit}".strip()
    wanted = reply["about"].get("answer")
    right = f'<p class="ev-soft">expected: {escape(str(wanted))}</p>' if wanted else ""
    return (
        f"<figure><figcaption>{escape(name)} <small>{escape(value)}</small></figcaption>{player}"
        f"<p>{escape(reply['text']) or '(no words)'}</p>{heard}{right}</figure>"
    )


def _failures(task: Json) -> str:
    rows = "".join(
        f"<li>{escape(name)}: {count} × {escape(reason)}</li>"
        for name, replies in task["replies"].items()
        for reason, count in replies["reasons"].items()
    )
    return f'<details class="ev-failed"><summary>What failed</summary><ul>{rows}</ul></details>' if rows else ""


def _about(report: Json) -> str:
    plan = report["plan"]
    settings = {
        "seed": plan["seed"],
        "sampling": "each base's own"
        if plan["temperature"] is None
        else f"temperature {plan['temperature']:g} for words",
        "recogniser": plan["recogniser"],
        "written": report["created"],
    }
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in settings.items())
    for each in report["checkpoints"]:
        origin = "a base" if each.get("is_base") else f"an adapter on {each.get('base', 'an unknown base')}"
        lines += f"<dt>{escape(each['name'])}</dt><dd>{escape(origin)}, weights {escape(each['fingerprint'])}</dd>"
    for task in report["tasks"]:
        for metric, judge in task["judges"].items():
            lines += f"<dt>judge of {escape(str(metric))}</dt><dd>{escape(str(judge))}</dd>"
    missing = "".join(f"<li>{escape(each)}</li>" for each in dict.fromkeys(report["unavailable"].values()))
    absent = f"<h3>Not measured</h3><ul>{missing}</ul>" if missing else ""
    return (
        f'<section class="ev-about">{absent}<h3>How</h3><dl>{lines}</dl>'
        '<p class="ev-soft">Both sides of a difference answered the same prompts with the same sampling seeds. '
        "Intervals are 95 % percentile bootstraps over prompts, the samples of a prompt pooled.</p></section>"
    )


def _flac(path: Path) -> bytes | None:
    """The recording without loss in about half the bytes."""
    try:
        samples, rate = soundfile.read(str(path), dtype="int16")
    except (OSError, RuntimeError):
        return None
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC")
    return buffer.getvalue()
