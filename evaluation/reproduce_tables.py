"""The comparison's tables in Markdown, and the places in a page that they are written into."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.figures import cells
from evaluation.reproduce_claims import claims
from evaluation.reproduce_tuning import choices
from evaluation.reproduce_variants import ABLATIONS, LORA, MAIN, ReproduceError

Row = Mapping[str, Any]
Line = tuple[str, Sequence[int], Row, bool]
"""A line's label, its seeds, its estimates, and whether they are differences."""
NOT_RUN = "_Not run yet._"
_WORDS = (
    ("accuracy/sampled", "right, sampled, %", 100.0),
    ("accuracy/greedy", "right, greedy, %", 100.0),
    ("score/sampled", "score, 1-5", 1.0),
    ("nll/text", "anchor NLL, words", 1.0),
)
_SPEECH = (
    ("wer/own", "WER, %", 100.0),
    ("wer/warm", "WER at T 0.8, %", 100.0),
    ("delivery/own", "delivery right, %", 100.0),
    ("delivery/warm", "delivery at T 0.8, %", 100.0),
    ("f0_sd/own", "F0 SD, semitones", 1.0),
    ("nll/speech", "anchor NLL, speech", 1.0),
)
_DIFFERENCES = (
    ("accuracy/sampled", "right, sampled", 100.0),
    ("accuracy/greedy", "right, greedy", 100.0),
    ("score/sampled", "score", 1.0),
    ("wer/own", "WER", 100.0),
    ("wer/warm", "WER at T 0.8", 100.0),
    ("delivery/own", "delivery", 100.0),
    ("delivery/warm", "delivery at T 0.8", 100.0),
    ("nll/speech", "NLL, speech", 1.0),
)
_ABLATIONS = (
    ("accuracy/sampled", "right, sampled, %", 100.0),
    ("score/sampled", "score, 1-5", 1.0),
    ("wer/own", "WER, %", 100.0),
    ("delivery/own", "delivery right, %", 100.0),
)
_TUNING = (
    ("accuracy/sampled", "right, sampled", 100.0),
    ("accuracy/greedy", "right, greedy", 100.0),
    ("wer/own", "WER", 100.0),
    ("delivery/own", "delivery", 100.0),
)
_LORA = (
    ("accuracy/sampled", "right, sampled, %", 100.0),
    ("wer/own", "WER, %", 100.0),
    ("wer/warm", "WER at T 0.8, %", 100.0),
    ("delivery/own", "delivery right, %", 100.0),
)
_ALONG = (
    ("eval/semantic/accuracy", "right, %"),
    ("eval/acoustic/wer", "WER, %"),
    ("eval/acoustic/delivery", "delivery right, %"),
)
_WHERE = (
    ("items/hard", "hard items"),
    ("items/easy", "easy items"),
    ("phrasing/seen", "seen phrasing"),
    ("phrasing/unseen", "unseen phrasing"),
)


def tables(found: Row) -> dict[str, str]:
    """Name of a place -> Markdown, of a summary."""
    rows = found["variants"]
    everybody = {"base": {"measures": found["base"]["measures"], "seeds": []}, **rows}
    return {
        "words": _table(everybody, "measures", _WORDS, seeds=True),
        "speech": _table(everybody, "measures", _SPEECH),
        "against-base": _table(rows, "minus_base", _DIFFERENCES, signed=True),
        "against-sft": _table(
            {n: r for n, r in rows.items() if r["minus_sft"]}, "minus_sft", _DIFFERENCES, signed=True
        ),
        "against-wavalign": _table(
            {n: r for n, r in rows.items() if r["minus_wavalign"]}, "minus_wavalign", _DIFFERENCES, signed=True
        ),
        "where": _table(everybody, "measures", [(key, label, 100.0) for key, label in _WHERE]),
        "families": _families({name: row for name, row in everybody.items() if name in ("base", *MAIN)}),
        "claims": _claims(found),
        "ablations": _ablations(rows),
        "lora": _lora(rows),
        "tuning": _tuning(rows),
        "cost": _cost(rows),
        "equal-cpu": _equal_cpu(found["equal_cpu"], [name for name, row in rows.items() if row["timed"]]),
        "setting": _setting(found),
    }


PLACE = re.compile(r"<!-- table: ([a-z-]+) -->.*?<!-- end -->", re.DOTALL)


def filled(page: str, parts: Mapping[str, str]) -> str:
    """``page`` with what stands in ``<!-- table: name --> ... <!-- end -->`` replaced by the part of that name.

    Places of other names stay as they are: several commands fill one page.
    """

    def replaced(match: re.Match[str]) -> str:
        part = parts.get(match[1])
        return match[0] if part is None else f"<!-- table: {match[1]} -->\n{part}\n<!-- end -->"

    return PLACE.sub(replaced, page)


def write_page(path: Path, parts: Mapping[str, str]) -> None:
    """Fills the places of the page at ``path``.

    Raises:
        ReproduceError: when there is no such page.
    """
    if not path.is_file():
        raise ReproduceError(f"There is no page {path} to write the tables into.")
    path.write_text(filled(path.read_text(encoding="utf-8"), parts), encoding="utf-8")


def _table(
    rows: Mapping[str, Row],
    block: str,
    columns: Sequence[tuple[str, str, float]],
    signed: bool = False,
    seeds: bool = False,
) -> str:
    return _lines([(f"`{name}`", row["seeds"], row[block], signed) for name, row in rows.items()], columns, seeds)


def _claims(found: Row) -> str:
    """What was expected beside what was found."""
    body = []
    for section in claims(found):
        for label, value, interval, n, target, mark, note in map(cells, section.figures):
            name, colon, rest = label.partition(": ")
            between = f" ({interval.replace(' .. ', ' to ')})" if interval else ""
            words = note.removeprefix("n: seeds").removeprefix("; ")
            body.append([f"`{name}`: {rest}" if colon else label, n, target, f"{value}{between}", mark, words])
    return markdown(["expected", "seeds", "target", "found", "", ""], body) if body else NOT_RUN


def _ablations(rows: Mapping[str, Row]) -> str:
    chosen = {name: rows[name] for name in (*ABLATIONS, "fixed-0.3") if name in rows}
    if chosen.keys() <= set(MAIN):
        return NOT_RUN
    lines = [(f"`{name}`", row["seeds"], row["measures"], False) for name, row in chosen.items()]
    return _lines(lines + _paired(chosen, "minus_wavalign", "`wavalign`"), _ABLATIONS, seeds=True)


def _lora(rows: Mapping[str, Row]) -> str:
    chosen = {name: rows[name] for name in LORA if name in rows}
    if chosen.keys() <= set(MAIN):
        return NOT_RUN
    lines = [(f"`{name}`", row["seeds"], row["measures"], False) for name, row in chosen.items()]
    lines += [(f"`{name}` minus base", row["seeds"], row["minus_base"], True) for name, row in chosen.items()]
    for name, row in chosen.items():
        lines += _paired({name: row}, "minus_full", f"`{name}-full`")
    return _lines(lines, _LORA, seeds=True)


def _tuning(rows: Mapping[str, Row]) -> str:
    """Each variant's differences from its recipe's own values, and which of them validation chooses."""
    chosen = choices(rows)
    picked = {name: row for name, row in rows.items() if row["recipe"] in chosen}
    body = []
    for name, row in picked.items():
        cells = [_cell(row["minus_recipe"].get(key), factor, True) for key, _, factor in _TUNING]
        marks = ["its own"] if row["shipped"] else []
        marks += ["chosen"] if chosen[row["recipe"]] == name else []
        body.append([f"`{name}`", str(len(row["seeds"])), *cells, ", ".join(marks)])
    return markdown(["", "seeds", *(label for _, label, _ in _TUNING), ""], body) if body else NOT_RUN


def _paired(rows: Mapping[str, Row], block: str, other: str) -> list[Line]:
    """Differences from ``other``, of the variants that have seeds in common with it."""
    return [
        (f"`{name}` minus {other}", row[block]["seeds"], row[block], True) for name, row in rows.items() if row[block]
    ]


def _lines(lines: Sequence[Line], columns: Sequence[tuple[str, str, float]], seeds: bool) -> str:
    """Columns that no line has are left out."""
    shown = [column for column in columns if any(column[0] in estimates for _, _, estimates, _ in lines)]
    if not shown:
        return "_Nothing measured yet._"
    head = ["", *(["seeds"] if seeds else []), *(label for _, label, _ in shown)]
    body = []
    for label, of_seeds, estimates, signed in lines:
        cells = [_cell(estimates.get(key), factor, signed) for key, _, factor in shown]
        body.append([label, *([str(len(of_seeds) or "")] if seeds else []), *cells])
    return markdown(head, body)


def _cell(estimate: Row | None, factor: float, signed: bool) -> str:
    if estimate is None:
        return ""
    show = _shower(factor, signed)
    low, high = (show(factor * estimate[key]) for key in ("low", "high"))
    text = f"{show(factor * estimate['value'])} ({low} to {high})"
    excludes_zero = estimate["low"] > 0 or estimate["high"] < 0
    return f"**{text}**" if signed and excludes_zero else text


def _shower(factor: float, signed: bool) -> Callable[[float], str]:
    sign, digits = "+" if signed else "", 1 if factor == 100.0 else 3
    return lambda value: f"{value:{sign}.{digits}f}"


def _families(everybody: Mapping[str, Row]) -> str:
    names = sorted({key for row in everybody.values() for key in row["measures"] if key.startswith("family/")})
    if not names:
        return "_Nothing measured yet._"
    body = []
    for key in names:
        cells = [row["measures"].get(key) for row in everybody.values()]
        body.append(
            [key.split("/")[1].replace("_", " "), *("" if c is None else f"{100 * c['value']:.0f}" for c in cells)]
        )
    return markdown(["right, sampled, %", *(f"`{name}`" for name in everybody)], body)


def _cost(rows: Mapping[str, Row]) -> str:
    """Seconds are left out where they are of a machine of another speed."""
    body = []
    for name, row in rows.items():
        steps = max(
            (points[-1][0] for run in row["runs"] for key, points in run.items() if key == "grad_norm"), default=0
        )
        seconds = row["cpu_s"]["value"] if row["cpu_s"] else 0.0
        spent = [f"{seconds:.0f}", f"{seconds / steps:.2f}" if steps else ""] if row["timed"] else ["", ""]
        body.append([f"`{name}`", str(steps), *spent, _mean_lambda(row["runs"])])
    return markdown(["", "updates", "CPU seconds", "a step", "mean lambda"], body) if body else "_Nothing trained yet._"


def _mean_lambda(runs: Sequence[Row]) -> str:
    """Over the runs: the words' lambda, and beside it speech's where that has one of its own."""
    means = []
    for key in ("mean_lambda", "mean_lambda_speech"):
        known = [run[key] for run in runs if run[key] is not None]
        means += [f"{sum(known) / len(known):.3f}"] if known else []
    return f"{means[0]} words, {means[1]} speech" if len(means) == 2 else "".join(means)


def _equal_cpu(table: Sequence[Row], names: Sequence[str]) -> str:
    """A table a measure: rows are variants, columns budgets, values those on validation prompts."""
    columns = [column for column in table if column["variants"]]
    if not columns:
        return "_No evaluations along the runs._"
    budgets = [f"{column['cpu_s']:.0f} s" for column in columns]
    parts = []
    for key, label in _ALONG:
        reached = {name: [column["variants"].get(name, {}).get(key) for column in columns] for name in names}
        body = [[f"`{name}`", *(_with_runs(estimate) for estimate in row)] for name, row in reached.items()]
        if any(estimate for row in reached.values() for estimate in row):
            parts.append(markdown([f"{label}, after", *budgets], body))
    return "\n\n".join(parts)


def _with_runs(estimate: Row | None) -> str:
    """In per cent; one run has no interval over runs."""
    if estimate is None:
        return ""
    return _cell(estimate, 100.0, False) if estimate["n"] > 1 else f"{100 * estimate['value']:.1f}"


def _setting(found: Row) -> str:
    setting, sizes = found["setting"], found["setting"]["sizes"]
    changed = ", ".join(f"`{override}`" for override in setting["overrides"]) or "none"
    tuned = "; ".join(
        f"`{recipe}` " + ", ".join(f"`{value}`" for value in values) for recipe, values in setting["tuned"].items()
    )
    seeds = {name: len(row["seeds"]) for name, row in found["variants"].items()}
    fewest, most = (min(seeds.values()), max(seeds.values())) if seeds else (0, 0)
    counted = str(fewest) if fewest == most else f"{fewest} to {most}"
    own = any(value.startswith("steps=") for row in found["variants"].values() for value in row["overrides"])
    return (
        f"Base `{found['base']['name']}` ({found['base']['sha256'][:12]}), {setting['steps']} updates"
        f"{' where no other number is named' if own else ''}, {counted} "
        f"seed{'' if counted == '1' else 's'}; changes of every recipe: {changed}; "
        f"further values of single recipes: {tuned or 'none'}. "
        f"Split `{sizes['split']}`: {sizes['prompts']} prompts, {sizes['samples']} samples each at temperature "
        f"{sizes['temperature']:g}; {sizes['spoken']} replies spoken at the checkpoint's own sampling and "
        f"{sizes['warm']} at {sizes['warm_temperature']:g}; {sizes['likelihood']} demonstrations scored."
    )


def markdown(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in body])
