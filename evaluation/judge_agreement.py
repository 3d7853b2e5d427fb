"""How far judges agree with people, as tables 5 and 6 of arXiv 2604.14932 do it, with intervals.

    python -m evaluation.judge_agreement scores.csv
    python -m evaluation.judge_agreement scores.jsonl --human anna ben --judges ears-1 --json agreement.json

Each row is one rated reply: ``prompt`` (its id), ``dimension`` (such as semantic or acoustic; may be missing), one
column for each person, one for each judge, scores from 1 to 5. Several people are averaged. An empty cell, or anything
else that is not such a score, is a person who did not rate (the row is then rated by the others) or a judgement that
failed (it is counted and left out). Prompts are resampled whole: replies to one prompt are not independent.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from evaluation.figures import Figure, Section, figure, table
from evaluation.intervals import DRAWS, Estimate, bootstrap_mean
from evaluation.judge_agreement_table import side_by_side

LOWEST, HIGHEST = 1.0, 5.0
_ABOUT = ("prompt", "sample", "dimension", "id", "text", "note")
"""Columns that tell what was rated; every other column that holds a score is a rater's."""
FEWEST_PROMPTS = 5
"""Prompts below which resampling them says nothing about other prompts: a value is then shown without an interval."""


class ScoresError(ValueError):
    """A table of scores that cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Ratings:
    """Scores of one dimension: ``prompts`` and ``human`` (n,), ``judges`` name -> (n,) with NaN where one failed."""

    dimension: str
    prompts: tuple[str, ...]
    human: np.ndarray
    judges: Mapping[str, np.ndarray]


def pearson(x: Sequence[float], y: Sequence[float], prompts: Sequence[str], seed: int = 0) -> Estimate | None:
    """Correlation over all replies, prompts resampled; None where one side does not vary."""
    names, cluster = np.unique(list(prompts), return_inverse=True)
    # Sums of a resample are sums of its prompts' sums; centring first keeps the differences of squares exact.
    a, b = np.asarray(x, float) - np.mean(x), np.asarray(y, float) - np.mean(y)
    sums = np.stack([np.bincount(cluster, weights=w) for w in (np.ones_like(a), a, b, a * a, b * b, a * b)], axis=1)
    value = _correlation(sums.sum(0))
    if math.isnan(value):
        return None
    drawn = np.random.default_rng(seed).integers(0, len(names), size=(DRAWS, len(names)))
    values = _correlation(sums[drawn].sum(1))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high), len(names))


def within_prompt_spearman(
    x: Sequence[float], y: Sequence[float], prompts: Sequence[str], seed: int = 0
) -> Estimate | None:
    """Rank correlation inside each prompt, averaged over prompts; ``n`` counts the prompts where it is defined.

    It is not where a prompt has one reply, or where all its replies got one score from the person or the judge.
    """
    x, y, names = np.asarray(x, float), np.asarray(y, float), np.asarray(list(prompts))
    values = [spearman(x[names == name], y[names == name]) for name in np.unique(names)]
    return bootstrap_mean([value for value in values if value is not None], seed=seed)


def spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    """Pearson's correlation of the ranks, ties sharing their mean rank; None where one side does not vary."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def within_prompt_variance(scores: Sequence[float], prompts: Sequence[str], seed: int = 0) -> Estimate | None:
    """Population variance of each prompt's scores, averaged over prompts that have several replies (figure 5)."""
    scores, names = np.asarray(scores, float), np.asarray(list(prompts))
    groups = [scores[names == name] for name in np.unique(names)]
    return bootstrap_mean([float(np.var(group)) for group in groups if len(group) > 1], seed=seed)


def agreement(ratings: Ratings, judge: str, seed: int = 0) -> tuple[Figure, ...]:
    """One judge's lines of the table."""
    scores = ratings.judges[judge]
    known = ~np.isnan(scores)
    failed = int((~known).sum())
    said, human = scores[known], ratings.human[known]
    prompts = [prompt for prompt, has in zip(ratings.prompts, known, strict=True) if has]
    off = said - human
    note = f"{failed} of {len(scores)} judgements failed" if failed else ""
    if not prompts:
        return (Figure(f"{ratings.dimension}/{judge}/pearson", f"{judge}: nothing", None, note=note),)
    ranks = within_prompt_spearman(human, said, prompts, seed)
    whole = len(set(prompts))
    undefined = whole - (ranks.n if ranks else 0)
    rows: list[tuple[str, str, Estimate | None, str, str]] = [
        ("pearson", "Pearson", pearson(human, said, prompts, seed), "", note),
        ("spearman", "Spearman within prompts", ranks, "", f"undefined in {undefined} prompts" if undefined else ""),
        ("mae", "mean absolute error", bootstrap_mean(np.abs(off), prompts, seed), "", ""),
        ("within_one", "off by at most 1", bootstrap_mean((np.abs(off) <= 1).astype(float), prompts, seed), "%", ""),
        ("bias", "bias (judge - human)", bootstrap_mean(off, prompts, seed), "", ""),
        ("variance", "variance within prompts", within_prompt_variance(said, prompts, seed), "", ""),
    ]
    return tuple(
        _enough(figure(f"{ratings.dimension}/{judge}/{id_}", f"{judge}: {label}", estimate, unit, note=about))
        for id_, label, estimate, unit, about in rows
    )


def sections(dimensions: Sequence[Ratings], seed: int = 0) -> list[Section]:
    """A table for each dimension."""
    found = []
    for ratings in dimensions:
        spread = within_prompt_variance(ratings.human, ratings.prompts, seed)
        rows = [_enough(figure(f"{ratings.dimension}/human/variance", "people: variance within prompts", spread))]
        for judge in ratings.judges:
            rows += agreement(ratings, judge, seed)
        replies, prompts = len(ratings.prompts), len(set(ratings.prompts))
        few = f" (no intervals below {FEWEST_PROMPTS} prompts)" if prompts < FEWEST_PROMPTS else ""
        found.append(Section(f"{ratings.dimension}: {replies} replies to {prompts} prompts{few}", tuple(rows)))
    return found


def _enough(found: Figure) -> Figure:
    """Without its interval where there are too few prompts for one."""
    if found.value is None or found.n is None or found.n >= FEWEST_PROMPTS:
        return found
    return replace(found, low=None, high=None)


def read_ratings(path: Path, human: Sequence[str] = ("human",), judges: Sequence[str] = ()) -> list[Ratings]:
    """The table in ``path`` (CSV with a header, or JSONL), by dimension; ``judges`` empty takes every other column.

    Raises:
        ScoresError: when the file, a column or every human score is missing, or a human score is not from 1 to 5.
    """
    rows = list(_rows(path))
    if not rows:
        raise ScoresError(f"{path} has no rows: each rated reply is one.")
    columns = list(dict.fromkeys(name for _, row in rows for name in row))
    if not judges:
        others = (name for name in columns if name not in (*human, *_ABOUT))
        judges = [name for name in others if any(_number(row.get(name)) is not None for _, row in rows)]
    for name in ("prompt", *human, *judges):
        if name not in columns:
            raise ScoresError(f'{path} has no column "{name}"; its columns are: {", ".join(map(str, columns))}.')
    if not judges:
        raise ScoresError(f"{path} has no judge: besides people's scores it needs a column for each judge.")
    groups: dict[str, list[tuple[str, float, list[float]]]] = {}
    for line, row in rows:
        people = [score for name in human if (score := _human(path, line, name, row.get(name))) is not None]
        if people:
            dimension = str(row.get("dimension") or "all")
            scores = [_judged(row.get(name)) for name in judges]
            groups.setdefault(dimension, []).append((str(row.get("prompt")), float(np.mean(people)), scores))
    if not groups:
        raise ScoresError(f"No row of {path} has a score from {' or '.join(human)}.")
    return [_ratings(dimension, list(judges), rated) for dimension, rated in groups.items()]


def _ratings(dimension: str, judges: Sequence[str], rated: Sequence[tuple[str, float, list[float]]]) -> Ratings:
    table = np.array([scores for _, _, scores in rated])
    columns = {name: table[:, place] for place, name in enumerate(judges)}
    return Ratings(dimension, tuple(p for p, _, _ in rated), np.array([h for _, h, _ in rated]), columns)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows with their line numbers."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file)
                for row in reader:
                    yield reader.line_num, {name: value for name, value in row.items() if name is not None}
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, Mapping):
                        raise ScoresError(f"{path}:{number}: a row must be an object of columns.")
                    yield number, row
    except OSError as error:
        raise ScoresError(f"The scores {path} cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise ScoresError(f"{path} is neither CSV (.csv) nor JSONL ({error}).") from error


def _number(value: Any) -> float | None:
    """None for a cell that holds no score from 1 to 5."""
    try:
        score = float(value)
    except (TypeError, ValueError):
        return None
    return score if LOWEST <= score <= HIGHEST else None


def _human(path: Path, line: int, name: str, value: Any) -> float | None:
    if value is None or not str(value).strip():
        return None
    score = _number(value)
    if score is None:
        raise ScoresError(f'{path}:{line}: the score of "{name}" must be from 1 to 5 or empty, got {value!r}.')
    return score


def _judged(value: Any) -> float:
    score = _number(value)
    return math.nan if score is None else score


def _correlation(sums: np.ndarray) -> np.ndarray:
    """From (..., 6) sums of 1, a, b, aa, bb, ab; NaN where a or b does not vary."""
    n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
    spread_a, spread_b = aa - a * a / n, bb - b * b / n
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (ab - a * b / n) / np.sqrt(spread_a * spread_b)
    varies = (spread_a > 1e-9 * np.maximum(aa, 1e-12)) & (spread_b > 1e-9 * np.maximum(bb, 1e-12))
    return np.where(varies, r, np.nan)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.judge_agreement", description=__doc__.split("\n")[0])
    parser.add_argument("scores", type=Path, help="CSV or JSONL, one rated reply a row")
    parser.add_argument("--human", nargs="+", default=["human"], help="the columns of people's scores; averaged")
    parser.add_argument("--judges", nargs="+", default=[], help="the judges' columns (default: all others)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, got {options.seed}.")
    if options.json and not options.json.parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}.")
    try:
        ratings = read_ratings(options.scores, options.human, options.judges)
    except ScoresError as error:
        print(error, file=sys.stderr)
        return 1
    found = sections(ratings, options.seed)
    print(side_by_side(found, [each.dimension for each in ratings], list(ratings[0].judges)), end="\n\n")
    print(table(found))
    if options.json:
        figures = [f.as_dict() for section in found for f in section.figures]
        options.json.write_text(json.dumps({"seed": options.seed, "figures": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
