"""VocalBench's knowledge set (arXiv 2505.15727): 2,000 spoken questions, right when the reply holds the answer.

The published rule asks whether the normalised answer is a piece of the normalised reply, whole words or not ("art" is
in "party"); both that and whole words are counted, in the text channel and in the recognised speech.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

# isort: split
import wavalign.torchaudio_guard  # noqa: F401 - before transformers

# isort: split
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from evaluation.tasks.data import folder_of, recording
from evaluation.tasks.items import Entry, Items, spread
from evaluation.tasks.protocol import Item, MetricInfo, Said, Scored, TaskContext, TaskError
from wavalign.dialogue import Dialogue, Turn

HUB = "VocalNet/VocalBench"
NAME = "vocalbench-knowledge"
_COLUMNS = ("Qid", "Audio", "Question", "Answer", "Topic", "Source")
_LISTS = ("json/knowledge.json", "knowledge.json")
_AUDIO = ("", "wav", "audio", "audios", "wavs")
_PUBLISHED = "VocalBench's own rule: the answer is a piece of the reply, also of a longer word"


class VocalBenchKnowledge:
    """The list of questions in ``knowledge.json`` (or ``json/``), recordings where its ``Audio`` says."""

    name = NAME
    metrics = (
        MetricInfo("correct", "%", 0, 1, "higher", "the answer's words in the text channel; its synonyms do not count"),
        MetricInfo(
            "correct_heard", "%", 0, 1, "higher", "the same in the recognised words; low where recognition errs"
        ),
        MetricInfo("published", "%", 0, 1, "higher", _PUBLISHED),
        MetricInfo("published_heard", "%", 0, 1, "higher", _PUBLISHED + "; on the recognised words"),
    )
    breakdowns = ("source",)
    needs = frozenset({"transcript"})

    def __init__(self, context: TaskContext, part: str | None = None) -> None:
        if part:
            raise TaskError(f"{NAME} has no parts; leave out /{part}.")
        self._context = context

    def items(self, limit: int | None = None, seed: int = 0) -> Items:
        folder = folder_of(NAME, self._context, HUB, ("*knowledge*", "*knowledge*/*"))
        entries = [
            Entry(row["Qid"], row["Topic"], partial(_item, row, folder))
            for row in _rows(next((folder / name for name in _LISTS if (folder / name).is_file()), folder / _LISTS[0]))
        ]
        return spread(entries, limit, seed, even=False)

    def score(self, pairs: Sequence[tuple[Item, Said]]) -> list[Scored]:
        return [_score(item, said) for item, said in pairs]

    def summary(self, rows: Sequence[tuple[Item, Scored]]) -> Mapping[str, float]:
        """ "s2t" and "s2s" by the published rule, in percent."""
        figures = {}
        for name, metric in (("s2t", "published"), ("s2s", "published_heard")):
            known = [value for _, scored in rows if (value := scored.values.get(metric)) is not None]
            if known:
                figures[name] = 100 * sum(known) / len(known)
        return figures

    def judges(self) -> Mapping[str, Any]:
        return {}


def normalised(text: str) -> str:
    """Whisper's English normaliser (numbers as digits, contractions written out) after the benchmark's own cleaning."""
    text = re.sub(r"<\|.*?\|>", " ", text)
    text = re.sub(r" ?([!,.?;:])", r"\1", " ".join(text.split())).replace("-", " ")
    return _normaliser()(text).lower().strip()


@cache
def _normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer({})


def _score(item: Item, said: Said) -> Scored:
    answer = normalised(str(item.facts["answer"]))
    if not answer:
        reason = f"the answer {item.facts['answer']!r} has no letters after normalising"
        names = [info.name for info in VocalBenchKnowledge.metrics]
        return Scored(dict.fromkeys(names), dict.fromkeys(names, reason))
    text = normalised(said.text)
    values: dict[str, float | None] = {"correct": _holds(text, answer), "published": float(answer in text)}
    heard = None if said.transcript is None else normalised(said.transcript)
    values["correct_heard"] = None if heard is None else _holds(heard, answer)
    values["published_heard"] = None if heard is None else float(answer in heard)
    return Scored(values, about={"answer": answer})


def _holds(text: str, answer: str) -> float:
    return float(f" {answer} " in f" {text} ")


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{NAME} needs the list of questions {path} ({error.strerror}).") from error
    except ValueError as error:
        raise TaskError(f"{path} is not JSON ({error}).") from error
    if not isinstance(rows, list) or not rows:
        raise TaskError(f"{path} should be a list of questions.")
    for place, row in enumerate(rows):
        missing = [name for name in _COLUMNS if not isinstance(row, dict) or not isinstance(row.get(name), str)]
        if missing:
            raise TaskError(f"Question {place} of {path} lacks {', '.join(missing)}.")
    return rows


def _item(row: Mapping[str, str], folder: Path) -> Item:
    below = next((name for name in _AUDIO if (folder / name / row["Audio"]).is_file()), "")
    speech = recording(str(Path(below) / row["Audio"]), folder, row["Qid"])
    facts = {"question": row["Question"], "answer": row["Answer"], "source": row["Source"]}
    return Item(row["Qid"], row["Topic"], Dialogue((Turn("user", speech=speech),)), facts)
