"""VStyle (Zhan et al. 2025, arXiv 2509.09716): is a reply spoken in the style that was asked for? A judge listens.

Four categories (acoustic attributes, instruction, role play, empathy), each with its own rubric of 1 to 5. The judge
gets the words of the request and the recording of the reply; with ``hear_question`` in its config the user's recording
too.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from evaluation.judges.asking import Question, TaskJudge, Verdict
from evaluation.judges.rubrics import STYLE_ATTRIBUTES, STYLE_EMPATHY, STYLE_INSTRUCTION, STYLE_ROLE
from evaluation.tasks.data import ParquetRows, folder_of, recording
from evaluation.tasks.items import Entry, Items, spread
from evaluation.tasks.protocol import Item, MetricInfo, Said, Scored, TaskContext, TaskError
from wavalign.dialogue import Dialogue, Turn

HUB = "zhanjun/VStyle"
LANGUAGES = ("en", "zh")
RUBRICS = {
    "acoustic_attributes": STYLE_ATTRIBUTES,
    "instruction": STYLE_INSTRUCTION,
    "role_play": STYLE_ROLE,
    "empathy": STYLE_EMPATHY,
}
ABILITIES = {
    "acoustic_attributes": ("age", "speed", "gender", "emotion", "pitch", "volume", "composite_properties"),
    "instruction": ("emotion", "variation", "style"),
    "role_play": ("character", "scenario"),
    "empathy": ("anger", "sadness_disappointment", "anxiety_fear", "joy_excitement"),
}
COMPOSITE_SHARE = 0.5
"""Of its category's weight; the other acoustic attributes share the rest evenly, as all abilities elsewhere do."""
_OTHER_NAMES = {"acoustic_properties": "acoustic_attributes", "switch": "variation"}
_LABELS = ("instruct_text", "ability", "instruct_id", "id")
_AUDIO_COLUMNS = ("audio", "instruct_audio", "instruction_audio", "instruction_audio_path", "instruct_audio_path")


class VStyle:
    """``part`` is the language: English by default, or "zh"."""

    name = "vstyle"
    metrics = (
        MetricInfo(
            "style",
            "",
            1,
            5,
            "higher",
            "by a judge that hears the reply: 1 wrong words, 2 no style, 3 some of it, 4 all of it, 5 and natural; "
            "audio judges agree with people far less on sound than on words",
        ),
    )
    breakdowns = ("ability",)
    needs = frozenset({"waveform"})

    def __init__(self, context: TaskContext, part: str | None = None) -> None:
        self._context = context
        self.language = part or LANGUAGES[0]
        if self.language not in LANGUAGES:
            raise TaskError(f'vstyle has no part "{part}"; it has: {", ".join(LANGUAGES)}.')
        if part:
            self.name = f"vstyle/{part}"

    def items(self, limit: int | None = None, seed: int = 0) -> Items:
        self._judges  # noqa: B018 - a missing judge is said before hours of answering
        starts = [f"{home}{self.language}{end}" for home in ("", "*/") for end in ("/*", "-*", "_*", ".*")]
        folder = folder_of("vstyle", self._context, HUB, starts)
        entries = []
        for place, (row, whole, home) in enumerate(_rows(folder, self.language)):
            category, ability = _ability(row, place)
            id_ = f"{self.language}/{row.get('instruct_id') or row.get('id') or place}"
            facts = {"question": row["instruct_text"], "ability": f"{category}/{ability}"}
            entries.append(Entry(id_, category, partial(_item, id_, category, facts, whole, home)))
        ids = [entry.id for entry in entries]
        if len(set(ids)) < len(ids):
            raise TaskError(f"{folder} has two instructions with one instruct_id; give the data set and not replies.")
        return spread(entries, limit, seed)

    def score(self, pairs: Sequence[tuple[Item, Said]]) -> list[Scored]:
        found: dict[int, Scored] = {
            place: Scored({"style": None}, {"style": "there is no recording of the reply"})
            for place, (_, said) in enumerate(pairs)
            if said.waveform is None
        }
        for category, judge in self._judges.items():
            places = [p for p, (item, _) in enumerate(pairs) if item.category == category and p not in found]
            verdicts = judge.verdicts([self._question(*pairs[place]) for place in places])
            found |= {place: _scored(verdict) for place, verdict in zip(places, verdicts, strict=True)}
        return [found[place] for place in range(len(pairs))]

    def summary(self, rows: Sequence[tuple[Item, Scored]]) -> Mapping[str, float]:
        """The mean of each category over its abilities by weight; "average" is the mean of the four and needs them all.

        An ability without a score is left out and the others' weights count for it, as in the published script.
        """
        by_ability: dict[str, list[float]] = defaultdict(list)
        for item, scored in rows:
            if (value := scored.values.get("style")) is not None:
                by_ability[str(item.facts["ability"])].append(value)
        means = {ability: sum(values) / len(values) for ability, values in by_ability.items()}
        figures = {}
        for category in ABILITIES:
            weights = {name: weight for name, weight in _weights(category).items() if name in means}
            if weights:
                figures[category] = sum(means[name] * w for name, w in weights.items()) / sum(weights.values())
        if len(figures) == len(ABILITIES):
            figures["average"] = sum(figures[category] for category in ABILITIES) / len(ABILITIES)
        return figures

    def judges(self) -> Mapping[str, Any]:
        return {f"style/{category}": judge.provenance() for category, judge in self._judges.items()}

    @cached_property
    def _judges(self) -> dict[str, TaskJudge]:
        return {name: TaskJudge(rubric, self._context, self.name) for name, rubric in RUBRICS.items()}

    def _question(self, item: Item, said: Said) -> Question:
        assert said.waveform is not None
        asked = item.dialogue.turns[-1].speech
        hear = self._context.judge is not None and self._context.judge.hear_question and asked is not None
        recordings = (("The user's recording:", asked.to_wav_bytes()),) if hear else ()
        return Question(
            {"question": str(item.facts["question"]), "kind": str(item.facts["ability"])},
            (*recordings, ("The reply to rate:", said.waveform.to_wav_bytes())),
            empty=not len(said.waveform.samples),
        )


def _weights(category: str) -> dict[str, float]:
    abilities = ABILITIES[category]
    if category != "acoustic_attributes":
        return {f"{category}/{name}": 1 / len(abilities) for name in abilities}
    rest = (1 - COMPOSITE_SHARE) / (len(abilities) - 1)
    return {f"{category}/{name}": COMPOSITE_SHARE if name == "composite_properties" else rest for name in abilities}


def _rows(folder: Path, language: str) -> list[tuple[dict[str, Any], Callable[[], dict[str, Any]], Path]]:
    """Labels of each row, the whole row when it is asked for, and where its paths start: parquet, or JSON lines."""
    tables = [file for file in sorted(folder.rglob("*.parquet")) if _is_of(file, folder, language)]
    if tables:
        rows = ParquetRows(tables, ("instruct_text", "ability"), "vstyle")
        labels = {name: rows.column(name) for name in _LABELS}
        return [
            ({name: values[place] for name, values in labels.items()}, partial(rows.__getitem__, place), folder)
            for place in range(len(rows))
        ]
    lists = [file for file in sorted(folder.rglob("*.jsonl")) if _is_of(file, folder, language)]
    if not lists:
        raise TaskError(
            f'{folder} holds neither parquet nor JSON lines of vstyle in a folder or file named "{language}".'
        )
    return [(row, partial(dict, row), file.parent) for file in lists for row in _lines(file)]


def _is_of(file: Path, folder: Path, language: str) -> bool:
    """Whether a folder on the way, or the file, is named by the language: en/metadata.jsonl, data/en-00000.parquet."""
    parts = file.relative_to(folder).parts
    return language in parts[:-1] or file.stem == language or file.stem.startswith((f"{language}-", f"{language}_"))


def _lines(file: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = json.loads(line) if line.strip() else None
                if row is not None and not (isinstance(row, dict) and isinstance(row.get("instruct_text"), str)):
                    raise TaskError(f"{file}:{number} has no instruct_text.")
                rows += [row] if row else []
    except OSError as error:
        raise TaskError(f"{file} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise TaskError(f"{file} is not JSON lines ({error}).") from error
    return rows


def _ability(row: Mapping[str, Any], place: int) -> tuple[str, str]:
    category, _, ability = str(row.get("ability") or "").partition("/")
    category, ability = _OTHER_NAMES.get(category, category), _OTHER_NAMES.get(ability, ability)
    if ability not in ABILITIES.get(category, ()):
        raise TaskError(f"Row {place} of vstyle has the ability {row.get('ability')!r}, which the benchmark has not.")
    return category, ability


def _item(id_: str, category: str, facts: Mapping[str, Any], whole: Callable[[], dict[str, Any]], folder: Path) -> Item:
    row = whole()
    column = next((name for name in _AUDIO_COLUMNS if row.get(name)), None)
    if column is None:
        raise TaskError(f"{id_} of vstyle has no recording in any of the columns {', '.join(_AUDIO_COLUMNS)}.")
    speech = recording(row[column], folder, id_)
    return Item(id_, category, Dialogue((Turn("user", speech=speech),)), facts)


def _scored(verdict: Verdict) -> Scored:
    failed = {} if verdict.score is not None else {"style": verdict.reason}
    return Scored({"style": verdict.score}, failed, verdict.about)
