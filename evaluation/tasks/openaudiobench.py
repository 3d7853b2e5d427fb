"""OpenAudioBench (Baichuan-Audio, arXiv 2502.17239): five sets of spoken questions, all scored by a judge."""

from __future__ import annotations

import ast
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from evaluation.judges.asking import Question, TaskJudge, Verdict
from evaluation.judges.rubrics import CORRECT, QUALITY, REASONING, Rubric
from evaluation.tasks.data import folder_of, recording
from evaluation.tasks.items import Entry, Items, spread
from evaluation.tasks.protocol import Item, MetricInfo, Said, Scored, TaskContext, TaskError
from wavalign.dialogue import Dialogue, Turn

HUB = "baichuan-inc/OpenAudioBench"
AUDIO_COLUMN = "audio_filename"


@dataclass(frozen=True)
class Subset:
    """The columns of ``eval_datas/NAME/NAME.csv``; ``metric`` is what its rubric's score is called."""

    question: str
    reference: str | None
    rubric: Rubric
    metric: str


SUBSETS: dict[str, Subset] = {
    "alpaca_eval": Subset("instruction", None, QUALITY, "quality"),
    "llama_questions": Subset("Questions", "Answer", CORRECT, "correct"),
    "reasoning_qa": Subset("Prompt", "参考答案", REASONING, "reasoning"),
    "trivia_qa": Subset("question", "answer_normalized_aliases", CORRECT, "correct"),
    "web_questions": Subset("question", "answers", CORRECT, "correct"),
}
METRICS = (
    MetricInfo(
        "score",
        "%",
        0,
        1,
        "higher",
        "one scale for all subsets, as published: right or not, a rating of 1-10 as tenths, marks of 1-5 as fifths",
    ),
    MetricInfo("correct", "%", 0, 1, "higher", "by a judge, of the text channel, against the reference"),
    MetricInfo("quality", "", 1, 10, "higher", "by a judge, of the text channel; long replies tend to be liked"),
    MetricInfo("reasoning", "", 1, 5, "higher", "by a judge, of the text channel, against a model solution"),
)


class OpenAudioBench:
    """``part`` names subsets, separated by commas; None takes the five."""

    name = "openaudiobench"
    metrics = METRICS
    breakdowns: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()

    def __init__(self, context: TaskContext, part: str | None = None) -> None:
        self._context = context
        self.subsets = tuple(part.split(",")) if part else tuple(SUBSETS)
        unknown = [name for name in self.subsets if name not in SUBSETS]
        if unknown:
            raise TaskError(f'openaudiobench has no subset "{unknown[0]}"; it has: {", ".join(SUBSETS)}.')
        if part:
            self.name = f"openaudiobench/{part}"

    def items(self, limit: int | None = None, seed: int = 0) -> Items:
        self._judges  # noqa: B018 - a missing judge is said before hours of answering
        patterns = [f"eval_datas/{name}/*" for name in self.subsets]
        folder = folder_of("openaudiobench", self._context, HUB, patterns)
        return spread([entry for name in self.subsets for entry in _entries(name, folder)], limit, seed)

    def score(self, pairs: Sequence[tuple[Item, Said]]) -> list[Scored]:
        found: dict[int, Scored] = {}
        for rubric, judge in self._judges.items():
            places = [p for p, (item, _) in enumerate(pairs) if SUBSETS[item.category].rubric.name == rubric]
            verdicts = judge.verdicts([_question(*pairs[place]) for place in places])
            for place, verdict in zip(places, verdicts, strict=True):
                found[place] = _scored(SUBSETS[pairs[place][0].category], verdict)
        return [found[place] for place in range(len(pairs))]

    def summary(self, rows: Sequence[tuple[Item, Scored]]) -> Mapping[str, float]:
        """Each subset on a scale of 100; "average" is their mean and needs all five."""
        by_subset: dict[str, list[float]] = defaultdict(list)
        for item, scored in rows:
            if (value := scored.values.get("score")) is not None:
                by_subset[item.category].append(value)
        figures = {name: 100 * sum(values) / len(values) for name, values in by_subset.items()}
        if all(name in figures for name in SUBSETS):
            figures["average"] = sum(figures[name] for name in SUBSETS) / len(SUBSETS)
        return figures

    def judges(self) -> Mapping[str, Any]:
        metrics = {SUBSETS[name].rubric.name: SUBSETS[name].metric for name in self.subsets}
        return {metrics[rubric]: judge.provenance() for rubric, judge in self._judges.items()}

    @cached_property
    def _judges(self) -> dict[str, TaskJudge]:
        rubrics = {SUBSETS[name].rubric.name: SUBSETS[name].rubric for name in self.subsets}
        return {name: TaskJudge(rubric, self._context, self.name) for name, rubric in rubrics.items()}


def references_of(cell: str) -> str:
    """A cell's accepted answers, one a line: the data set writes several as a Python or JSON list."""
    text = cell.strip()
    if text.startswith("["):
        try:
            return "\n".join(str(each) for each in ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError):
            return text
    return text


def _entries(name: str, folder: Path) -> list[Entry]:
    subset, path = SUBSETS[name], folder / "eval_datas" / name / f"{name}.csv"
    needed = [AUDIO_COLUMN, subset.question, *([subset.reference] if subset.reference else [])]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                raise TaskError(
                    f"{path} has no column {', '.join(missing)}; its columns are: {', '.join(reader.fieldnames or ())}."
                )
            rows = list(reader)
    except OSError as error:
        raise TaskError(f"openaudiobench needs {path} ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TaskError(f"{path} cannot be read as CSV ({error}).") from error
    return [Entry(f"{name}/{n}", name, partial(_item, f"{name}/{n}", name, row, path)) for n, row in enumerate(rows)]


def _item(id_: str, name: str, row: Mapping[str, str], path: Path) -> Item:
    subset = SUBSETS[name]
    speech = recording(str(Path("audios") / row[AUDIO_COLUMN]), path.parent, id_)
    facts = {"question": row[subset.question]}
    if subset.reference:
        facts["reference"] = references_of(row[subset.reference])
    return Item(id_, name, Dialogue((Turn("user", speech=speech),)), facts)


def _question(item: Item, said: Said) -> Question:
    fields = {"question": item.facts["question"], "reply": said.text, "reference": item.facts.get("reference", "")}
    return Question(fields, empty=not said.text.strip())


def _scored(subset: Subset, verdict: Verdict) -> Scored:
    values: dict[str, float | None] = {info.name: None for info in METRICS}
    if verdict.score is None:
        return Scored(values, dict.fromkeys((subset.metric, "score"), verdict.reason), verdict.about)
    values[subset.metric] = verdict.score
    values["score"] = verdict.score / subset.rubric.highest
    return Scored(values, about=verdict.about)
