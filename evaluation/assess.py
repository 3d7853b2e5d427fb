"""Lets checkpoints answer the prompts of tasks and scores what they say; goes on where it was interrupted.

Checkpoints of one base answer each batch together, every reply with the sampling seed of its prompt, so that two
checkpoints differ by their weights alone. A prompt that fails is tried again by itself, recorded with the reason and
counted; it stops nothing. The work folder is laid out as a run's (``wavalign.training.journal``), so that whoever
supervises training can supervise this.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from evaluation.acoustics import Acoustics
from evaluation.acoustics_hearing import open_hearing
from evaluation.acoustics_quality import QualityModels
from evaluation.assess_plan import Plan, PlanError, differences, fingerprint, read_plan, write_plan
from evaluation.assess_records import Key, Records, ReplyRecord, ScoreRecord
from evaluation.assess_summaries import SUMMARIES, summaries
from evaluation.tasks.protocol import Item, Said, Scored, Task, TaskContext, TaskError
from evaluation.tasks.registry import create
from wavalign import audio
from wavalign.audio import AudioError
from wavalign.dialogue import Dialogue, Reply
from wavalign.models.protocol import Request
from wavalign.models.registry import Registry
from wavalign.training.journal import Journal

PROGRESS, PROBLEMS = "progress.json", "problems.json"
_SCORED_AT_ONCE = 64
_LONGEST_REASON = 300
Status = Literal["completed", "stopped"]


@dataclass(frozen=True)
class Place:
    """Where an evaluation reads and writes. ``home`` holds further checkpoints."""

    work: Path
    assets: Path
    home: Path | None = None


class Assessment:
    """One plan in one work folder.

    Raises:
        PlanError, TaskError, HearingError, CheckpointError: one sentence, before anything is answered.
    """

    def __init__(self, plan: Plan, place: Place, stop: threading.Event | None = None, quiet: bool = False) -> None:
        self.plan, self.place = plan, place
        self.stop = stop or threading.Event()
        self.registry = Registry(place.assets, place.home)
        self._claim()
        self.acoustics = Acoustics(open_hearing(plan.recogniser, place.assets), QualityModels(plan.dnsmos, plan.utmos))
        context = TaskContext(place.assets, plan.data, plan.judge, place.work / "judgements", self.stop)
        self.tasks = {name: create(name, context) for name in plan.tasks}
        self.items = {name: task.items(plan.limit, plan.seed) for name, task in self.tasks.items()}
        empty = [name for name, items in self.items.items() if not len(items)]
        if empty:
            raise TaskError(f"{empty[0]} has no prompts.")
        self.records = Records(place.work)
        self.journal = Journal(place.work)
        self.progress = Progress(place.work / PROGRESS, self.journal, quiet)
        self.problems: dict[str, str] = {}

    def run(self, retry: bool = False) -> Status:
        """Answers, measures and scores what is not there yet; ``retry`` also what failed.

        Raises:
            PlanError: when no prompt at all could be answered.
        """
        self.journal.event("prepared", prompts=sum(len(items) for items in self.items.values()))
        if self._answer(retry) and self._score(retry):
            found = summaries(self.tasks, self.records, self.plan)
            _whole(self.place.work / SUMMARIES, found)
            return "completed"
        return "stopped"

    def _claim(self) -> None:
        """The folder is this plan's, with these weights; anything else would mix two evaluations."""
        work = self.place.work
        work.mkdir(parents=True, exist_ok=True)
        marks = {name: fingerprint(self.registry.checkpoint(name)) for name in self.plan.checkpoints}
        found = read_plan(work)
        if found is not None:
            before, known = found
            if changed := differences(before, self.plan):
                raise PlanError(
                    f"{work} holds an evaluation with another {changed[0]} ({getattr(before, changed[0])}, not "
                    f"{getattr(self.plan, changed[0])}); name another folder, or give the same settings to go on."
                )
            if moved := [name for name, mark in known.items() if marks[name] != mark]:
                raise PlanError(
                    f'The weights of "{moved[0]}" have changed since {work} was begun; name another folder.'
                )
        write_plan(work, self.plan, marks)

    def _answer(self, retry: bool) -> bool:
        wanted: list[tuple[str, int, int]] = [
            (task, place, sample)
            for task, items in self.items.items()
            for place in range(len(items))
            for sample in range(self.plan.samples)
        ]
        todo = {
            group: [(each, names) for each in wanted if (names := self._missing(each, group, retry))]
            for group in self._groups()
        }
        total = len(wanted) * len(self.plan.checkpoints)
        left = sum(len(names) for rows in todo.values() for _, names in rows)
        with self.progress.stage("answering", total, total - left, self._failures):
            for group, rows in todo.items():
                if not rows:
                    continue
                model = self.registry.load(list(group))
                at_once = max(1, self.plan.batch // len(group))
                for start in range(0, len(rows), at_once):
                    if self._stopping() or not self._answer_batch(model, rows[start : start + at_once]):
                        return False
        if all(record.error for record in self.records.replies.values()):
            first = next(iter(self.records.replies.values())).error
            raise PlanError(f"No prompt could be answered: {first}")
        return True

    def _answer_batch(self, model: Any, rows: Sequence[tuple[tuple[str, int, int], Sequence[str]]]) -> bool:
        """False when it was stopped on the way; then nothing of the batch is kept."""
        asked: list[ReplyRecord] = []
        requests: list[Request] = []
        failed: list[ReplyRecord] = []
        for (task, place, sample), names in rows:
            id_ = _id(self.items[task], place)
            blank = ReplyRecord(task, "", id_, sample, "", self.plan.seed_of(task, id_, sample))
            try:
                item = self.items[task][place]
            except (AudioError, TaskError, OSError, ValueError) as error:
                failed += [replace(blank, checkpoint=name, error=_reason(error)) for name in names]
                continue
            facts = {name: str(item.facts[name]) for name in self.tasks[task].breakdowns if name in item.facts}
            blank = replace(blank, category=item.category, groups=facts, question=_question(item))
            for name in names:
                asked.append(replace(blank, checkpoint=name))
                requests.append(self._request(model, item.dialogue, name, blank.seed))
        said = self._said(model, requests)
        if self.stop.is_set():
            return False
        whole = [(record, reply) for record, reply in zip(asked, said, strict=True) if isinstance(reply, Reply)]
        failed += [
            replace(record, error=reply) for record, reply in zip(asked, said, strict=True) if isinstance(reply, str)
        ]
        measured = self.acoustics.measure([(reply.text, reply.waveform, reply.finished) for _, reply in whole])
        records = [
            replace(
                record,
                text=reply.text,
                transcript=taken.transcript,
                finished=reply.finished,
                sound=self.records.keep_sound(record.key, reply.waveform),
                values=taken.values,
                weights=taken.weights,
                failed=taken.failed,
            )
            for (record, reply), taken in zip(whole, measured, strict=True)
        ]
        self.records.add_replies([*records, *failed])
        self.progress.advance(len(records) + len(failed))
        return True

    def _said(self, model: Any, requests: Sequence[Request]) -> list[Reply | str]:
        """A reply for each request, or why there is none. When a batch fails, each request is tried by itself."""
        if not requests:
            return []
        try:
            return list(model.reply_many(requests, self.stop))
        except (ValueError, RuntimeError) as error:
            if len(requests) == 1 or self.stop.is_set():
                return [_reason(error)] * len(requests)
        return [reply for request in requests for reply in self._said(model, [request])]

    def _request(self, model: Any, dialogue: Dialogue, name: str, seed: int) -> Request:
        own = model.default_sampling
        changes = {"temperature": self.plan.temperature, "speech_temperature": self.plan.speech_temperature}
        given = {field: value for field, value in changes.items() if value is not None}
        return Request(dialogue, name, replace(own, seed=seed, **given))

    def _score(self, retry: bool) -> bool:
        answered = [record for record in self.records.replies.values() if not record.error]
        todo = [record for record in answered if self._unscored(record.key, retry)]
        with self.progress.stage("scoring", len(answered), len(answered) - len(todo), self._failures):
            for name, task in self.tasks.items():
                own = [record for record in todo if record.task == name]
                places = {_id(self.items[name], place): place for place in range(len(self.items[name]))}
                for start in range(0, len(own), _SCORED_AT_ONCE):
                    if self._stopping():
                        return False
                    batch = own[start : start + _SCORED_AT_ONCE]
                    pairs = [(self.items[name][places[record.item]], self._as_said(task, record)) for record in batch]
                    try:
                        scored = task.score(pairs)
                    except TaskError as error:
                        self.problems[name] = str(error)
                        break
                    if self.stop.is_set():  # a judge that was not waited for has not failed
                        return False
                    self.records.add_scores(_score_record(*pair) for pair in zip(batch, scored, strict=True))
                    self.progress.advance(len(batch))
        _whole(self.place.work / PROBLEMS, self.problems)
        return True

    def _as_said(self, task: Task, record: ReplyRecord) -> Said:
        sound = audio.read(self.place.work / record.sound) if "waveform" in task.needs and record.sound else None
        return Said(record.text, record.transcript, sound, record.seed)

    def _groups(self) -> list[tuple[str, ...]]:
        """Checkpoints that answer together: those of one base."""
        groups: dict[str, list[str]] = {}
        for name in self.plan.checkpoints:
            groups.setdefault(self.registry.checkpoint(name).base_name, []).append(name)
        return [tuple(names) for names in groups.values()]

    def _missing(self, each: tuple[str, int, int], group: Sequence[str], retry: bool) -> list[str]:
        task, place, sample = each
        id_ = _id(self.items[task], place)

        def is_missing(name: str) -> bool:
            record = self.records.replies.get((task, name, id_, sample))
            return record is None or (retry and bool(record.error))

        return [name for name in group if is_missing(name)]

    def _unscored(self, key: Key, retry: bool) -> bool:
        record = self.records.scores.get(key)
        return record is None or (retry and bool(record.failed))

    def _failures(self) -> int:
        return sum(bool(record.error) for record in self.records.replies.values()) + sum(
            bool(record.failed) for record in self.records.scores.values()
        )

    def _stopping(self) -> bool:
        if self.journal.asked_to_stop():
            self.journal.answered_stop()
            self.stop.set()
        return self.stop.is_set()


class Progress:
    """How far it is: a bar on the terminal, and ``progress.json`` for whoever looks from outside."""

    def __init__(self, path: Path, journal: Journal, quiet: bool, clock: Callable[[], float] = time.time) -> None:
        self.path, self.journal, self.quiet, self.clock = path, journal, quiet, clock
        self._bar: tqdm | None = None
        self._name, self._began, self._before = "", 0.0, 0
        self._failures: Callable[[], int] = lambda: 0

    def stage(self, name: str, total: int, done: int, failures: Callable[[], int]) -> Progress:
        self._name, self._began, self._before, self._failures = name, self.clock(), done, failures
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=name,
            unit="reply",
            disable=self.quiet or not sys.stderr.isatty(),
            leave=False,
        )
        self._bar.n = done
        self._tell()
        return self

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int) -> None:
        assert self._bar is not None
        if self._bar.disable:
            self._bar.n += count
        else:
            self._bar.set_postfix(failed=self._failures())
            self._bar.update(count)
        self._tell()

    def _tell(self) -> None:
        done, total, now = int(self._bar.n), int(self._bar.total), self.clock()
        fresh = done - self._before
        left = (now - self._began) / fresh * (total - done) if fresh else None
        self.journal.heartbeat(done)
        _whole(
            self.path,
            {
                "stage": self._name,
                "done": done,
                "total": total,
                "failed": self._failures(),
                "seconds_left": None if left is None else round(left, 1),
                "time": now,
            },
        )


def _score_record(record: ReplyRecord, scored: Scored) -> ScoreRecord:
    about = json.loads(json.dumps(dict(scored.about), default=str))
    return ScoreRecord(*record.key, dict(scored.values), dict(scored.failed), about)


def _id(items: Any, place: int) -> str:
    """Without reading the prompt, where the sequence knows."""
    return items.ids[place] if hasattr(items, "ids") else items[place].id


def _question(item: Item) -> str:
    """What the user said, turn by turn, for whoever reads the report."""
    users = [turn.text or "" for turn in item.dialogue.turns if turn.role == "user"]
    users[-1] = str(item.facts.get("question") or users[-1])
    return " → ".join(words for words in users if words)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:_LONGEST_REASON]


def _whole(path: Path, data: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
