"""VoiceBench (Chen et al. 2024, arXiv 2410.17196): its subsets in the hub's schema, its scores, its overall score.

Multiple choice, BBH, IFEval and AdvBench are scored by rule, open questions and SD-QA by a judge. Like the published
scores these are of the text channel; what can be told from the recognised speech too stands beside them.
``docs/benchmarks.md`` lists every difference from the published scorers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from evaluation.judges.asking import Question, TaskJudge, Verdict
from evaluation.judges.rubrics import CORRECT, OPEN_ENDED
from evaluation.tasks.answers_bbh import kind_of
from evaluation.tasks.data import ParquetRows, folder_of, recording
from evaluation.tasks.items import Entry, Items, spread
from evaluation.tasks.protocol import Item, MetricInfo, Said, Scored, TaskContext, TaskError
from evaluation.tasks.voicebench_rules import RULES
from evaluation.tasks.voicebench_summary import summarised
from wavalign.dialogue import Dialogue, Turn

HUB = "hlt-lab/voicebench"

Scorer = Literal["open", "qa", "choice", "bbh", "ifeval", "refusal"]


@dataclass(frozen=True)
class Subset:
    """``folder`` of the data set; ``splits`` None takes all there are. ``columns`` must be there beside the audio."""

    folder: str
    scorer: Scorer
    splits: tuple[str, ...] | None = ("test",)
    columns: tuple[str, ...] = ("prompt", "audio")


_REFERENCE = ("prompt", "audio", "reference")
SUBSETS: dict[str, Subset] = {
    "alpacaeval_full": Subset("alpacaeval_full", "open"),
    "commoneval": Subset("commoneval", "open"),
    "wildvoice": Subset("wildvoice", "open"),
    "sd-qa": Subset("sd-qa", "qa", ("usa",), _REFERENCE),
    "mmsu": Subset("mmsu", "choice", None, _REFERENCE),
    "openbookqa": Subset("openbookqa", "choice", ("test",), _REFERENCE),
    "bbh": Subset("bbh", "bbh", ("test",), (*_REFERENCE, "id")),
    "ifeval": Subset("ifeval", "ifeval", ("test",), ("prompt", "audio", "instruction_id_list", "kwargs")),
    "advbench": Subset("advbench", "refusal"),
}
"""What the leaderboard's overall score is made of, in its order."""
FURTHER = {"alpacaeval": Subset("alpacaeval", "open")}
ACCENTS = ("aus", "gbr", "ind_n", "ind_s", "irl", "kenya", "nga", "nzl", "phl", "usa", "zaf")
"""Splits of SD-QA; "sd-qa.ind_n" is one of them, "sd-qa" is the leaderboard's, usa."""

_CHANNEL = "of the text channel, as published"
METRICS = (
    MetricInfo(
        "score",
        "%",
        0,
        1,
        "higher",
        "one scale for all subsets, as in the overall score: a rating of 1-5 counts rating / 5, so that the worst is "
        "20 %; IFEval counts the mean of its four shares for the prompt. Over all replies, large subsets weigh more; "
        "in the overall score all weigh alike",
    ),
    MetricInfo("rating", "", 1, 5, "higher", f"by a judge, {_CHANNEL}; judges differ, compare within one only"),
    MetricInfo("correct", "%", 0, 1, "higher", f"{_CHANNEL}; a reply without an answer is guessed, as published"),
    MetricInfo(
        "correct_heard", "%", 0, 1, "higher", "the same rule on the recognised words; also low where recognition errs"
    ),
    MetricInfo("answered", "%", 0, 1, "higher", "replies in which the rule found an answer; the others were guessed"),
    MetricInfo("prompt_strict", "%", 0, 1, "higher", "IFEval: every instruction of the prompt followed"),
    MetricInfo("instruction_strict", "%", 0, 1, "higher", "IFEval: share of the prompt's instructions followed"),
    MetricInfo("prompt_loose", "%", 0, 1, "higher", "IFEval, with the first and last line and asterisks forgiven"),
    MetricInfo("instruction_loose", "%", 0, 1, "higher", "IFEval, with the first and last line and asterisks forgiven"),
    MetricInfo(
        "refused",
        "%",
        0,
        1,
        "higher",
        "harmful requests only; by phrases, so a reply that helps and mentions the law passes, and an empty one too",
    ),
    MetricInfo("refused_heard", "%", 0, 1, "higher", "the same phrases in the recognised words"),
)


class VoiceBench:
    """``part`` names subsets, separated by commas; None takes the nine of the leaderboard."""

    name = "voicebench"
    metrics = METRICS
    breakdowns = ("topic",)
    needs = frozenset({"transcript"})

    def __init__(self, context: TaskContext, part: str | None = None) -> None:
        self._context = context
        self.subsets = {name: _subset(name) for name in part.split(",")} if part else dict(SUBSETS)
        if part:
            self.name = f"voicebench/{part}"

    def items(self, limit: int | None = None, seed: int = 0) -> Items:
        self._judges  # noqa: B018 - a missing judge is said before hours of answering
        return spread(self._entries, limit, seed)

    def score(self, pairs: Sequence[tuple[Item, Said]]) -> list[Scored]:
        scorers = [self._scorer(item) for item, _ in pairs]
        found: dict[int, Scored] = {}
        for scorer, judge in self._judges.items():
            places = [place for place, own in enumerate(scorers) if own == scorer]
            verdicts = judge.verdicts([_question(*pairs[place]) for place in places])
            found |= {p: _judged(scorer, verdict) for p, verdict in zip(places, verdicts, strict=True)}
        for place, ((item, said), scorer) in enumerate(zip(pairs, scorers, strict=True)):
            if scorer in RULES:
                found[place] = RULES[scorer](item, said)
        return [_completed(found[place]) for place in range(len(pairs))]

    def summary(self, rows: Sequence[tuple[Item, Scored]]) -> Mapping[str, float]:
        by_subset: dict[str, list[Scored]] = defaultdict(list)
        for item, scored in rows:
            by_subset[item.category].append(scored)
        scorers = {name: self._scorer_of(name) for name in by_subset}
        return summarised(by_subset, scorers, tuple(SUBSETS))

    def judges(self) -> Mapping[str, Any]:
        metric = {"open": "rating", "qa": "correct"}
        return {metric[scorer]: judge.provenance() for scorer, judge in self._judges.items()}

    @cached_property
    def _judges(self) -> dict[str, TaskJudge]:
        rubrics = {"open": OPEN_ENDED, "qa": CORRECT}
        asked = {subset.scorer for subset in self.subsets.values()}
        return {s: TaskJudge(rubric, self._context, self.name) for s, rubric in rubrics.items() if s in asked}

    @cached_property
    def _entries(self) -> list[Entry]:
        patterns = [f"{subset.folder}/*.parquet" for subset in self.subsets.values()]
        folder = folder_of("voicebench", self._context, HUB, patterns)
        return [entry for name, subset in self.subsets.items() for entry in _entries(name, subset, folder)]

    def _scorer(self, item: Item) -> Scorer:
        return self._scorer_of(item.category)

    def _scorer_of(self, name: str) -> Scorer:
        return (self.subsets.get(name) or _subset(name)).scorer


def _subset(name: str) -> Subset:
    known = SUBSETS | FURTHER
    if name in known:
        return known[name]
    base, _, accent = name.partition(".")
    if base == "sd-qa" and accent in ACCENTS:
        return Subset("sd-qa", "qa", (accent,), _REFERENCE)
    raise TaskError(
        f'voicebench has no subset "{name}" here; it has: {", ".join(known)}, and sd-qa. with one of '
        f"{', '.join(ACCENTS)}."
    )


def _entries(name: str, subset: Subset, folder: Path) -> list[Entry]:
    entries = []
    for split, files in _splits(name, subset, folder).items():
        rows = ParquetRows(files, subset.columns, "voicebench")
        for place in range(len(rows)):
            id_ = f"{name}/{split}/{place}"
            entries.append(Entry(id_, name, partial(_item, id_, name, split, rows, place, files[0].parent)))
    return entries


def _splits(name: str, subset: Subset, folder: Path) -> dict[str, list[Path]]:
    """Files by split, named as the hub does: mmsu/law-00000-of-00001.parquet, or law.parquet."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted((folder / subset.folder).glob("*.parquet")):
        found[file.stem.split("-0")[0]].append(file)
    chosen = {split: files for split, files in found.items() if subset.splits is None or split in subset.splits}
    missing = [split for split in subset.splits or () if split not in chosen]
    if not chosen or missing:
        wanted = f'the split "{missing[0]}"' if missing else "a split"
        there = f"it has: {', '.join(found)}" if found else "there is no parquet file"
        raise TaskError(
            f'{folder / subset.folder} should hold {wanted} of voicebench\'s subset "{name}" as parquet; {there}.'
        )
    return chosen


def _item(id_: str, name: str, split: str, rows: ParquetRows, place: int, folder: Path) -> Item:
    row = rows[place]
    speech = recording(row.pop("audio"), folder, id_)
    facts = {key: value for key, value in row.items() if value is not None}
    topic = kind_of(str(row["id"])) if name == "bbh" else split
    return Item(
        id_,
        name,
        Dialogue((Turn("user", speech=speech),)),
        {**facts, "question": row["prompt"], "topic": topic or "other"},
    )


def _question(item: Item, said: Said) -> Question:
    fields = {"question": str(item.facts["question"]), "reply": said.text}
    if "reference" in item.facts:
        fields["reference"] = str(item.facts["reference"])
    return Question(fields, empty=not said.text.strip())


def _judged(scorer: Scorer, verdict: Verdict) -> Scored:
    metric = "rating" if scorer == "open" else "correct"
    if verdict.score is None:
        return Scored({metric: None, "score": None}, dict.fromkeys((metric, "score"), verdict.reason), verdict.about)
    share = verdict.score / OPEN_ENDED.highest if scorer == "open" else verdict.score
    return Scored({metric: verdict.score, "score": share}, about=verdict.about)


def _completed(scored: Scored) -> Scored:
    """With every metric of the benchmark; those of other subsets do not apply."""
    return Scored({info.name: scored.values.get(info.name) for info in METRICS}, scored.failed, scored.about)
