"""Lets checkpoints answer the prompts of tasks and scores what they say; goes on where it was interrupted.

Checkpoints of one base answer each batch together, every reply with the sampling seed of its prompt, so that two
checkpoints differ by their weights alone. A prompt that fails is tried again by itself, recorded with the reason and
counted; it stops nothing. The work folder is laid out as a run's (``wavalign.training.journal``), so that whoever
supervises training can supervise this.

Several processes (torchrun, ``accelerate launch``) share out what is not there yet. Each writes down what it finds, so
that one that is killed loses a batch; what they found together does not depend on their number.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from evaluation.acoustics import Acoustics
from evaluation.acoustics_hearing import open_hearing
from evaluation.acoustics_quality import QualityModels
from evaluation.assess_plan import Plan, PlanError, differences, fingerprint, read_plan, write_plan
from evaluation.assess_progress import Progress, write_whole
from evaluation.assess_records import Key, Records, ReplyRecord, ScoreRecord
from evaluation.assess_summaries import SUMMARIES, summaries
from evaluation.tasks.protocol import Item, Said, Scored, Task, TaskContext, TaskError
from evaluation.tasks.registry import create
from wavalign import audio
from wavalign.audio import AudioError
from wavalign.dialogue import Dialogue, Reply
from wavalign.models.protocol import Request
from wavalign.models.registry import Registry
from wavalign.training.journal import Journal, asked_to_stop
from wavalign.training.world import Alone, World

PROGRESS, PROBLEMS = "progress.json", "problems.json"
_SCORED_AT_ONCE = 64
_LONGEST_REASON = 300
Status = Literal["completed", "stopped"]
T = TypeVar("T")


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

    def __init__(
        self,
        plan: Plan,
        place: Place,
        stop: threading.Event | None = None,
        quiet: bool = False,
        world: World | None = None,
    ) -> None:
        self.plan, self.place = plan, place
        self.world = world or Alone()
        self.first = self.world.rank == 0
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
        self.records = Records(place.work, self.world.rank if self.world.size > 1 else None)
        self.journal = Journal(place.work) if self.first else None
        self.progress = Progress(place.work / PROGRESS, self.journal, quiet)
        self.problems: dict[str, str] = {}

    def run(self, retry: bool = False) -> Status:
        """Answers, measures and scores what is not there yet; ``retry`` also what failed.

        Raises:
            PlanError: when no prompt at all could be answered.
        """
        if self.journal:
            self.journal.event(
                "prepared", prompts=sum(len(items) for items in self.items.values()), processes=self.world.size
            )
        self.world.gather(None)  # nobody writes before all have read what is there
        if self._together(self._answer(retry)) and self._together(self._score(retry)):
            if self.first:
                self.records.put_together(self._keys())
                write_whole(self.place.work / PROBLEMS, self.problems)
                write_whole(self.place.work / SUMMARIES, summaries(self.tasks, self.records, self.plan))
            return "completed"
        return "stopped"

    def _together(self, done: bool) -> bool:
        """Whether all processes are done; all then know what each has found.

        Raises:
            PlanError: when no prompt at all could be answered.
        """
        everybody = self.world.gather((done, self.problems))
        self.records.read()
        self.problems = {name: words for _, problems in everybody for name, words in problems.items()}
        done = all(each for each, _ in everybody)
        if self.journal and not done and self.journal.asked_to_stop():
            self.journal.answered_stop()
        if done and all(record.error for record in self.records.replies.values()):
            first = next(iter(self.records.replies.values())).error
            raise PlanError(f"No prompt could be answered: {first}")
        return done

    def _mine(self, work: Sequence[T]) -> list[T]:
        """This process's share of what is to be done, which all of them see alike."""
        return list(work[self.world.rank :: self.world.size])

    def _keys(self) -> list[Key]:
        """Every reply in the order in which one process makes them."""
        return [
            (task, name, _id(self.items[task], place), sample)
            for group in self._groups()
            for task, place, sample in self._wanted()
            for name in group
        ]

    def _wanted(self) -> list[tuple[str, int, int]]:
        """(task, place, sample) of everything that is asked."""
        return [
            (task, place, sample)
            for task, items in self.items.items()
            for place in range(len(items))
            for sample in range(self.plan.samples)
        ]

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
        if self.first:
            write_plan(work, self.plan, marks)

    def _answer(self, retry: bool) -> bool:
        wanted = self._wanted()
        todo = {
            group: [(each, names) for each in wanted if (names := self._missing(each, group, retry))]
            for group in self._groups()
        }
        done = len(wanted) * len(self.plan.checkpoints) - sum(len(n) for rows in todo.values() for _, n in rows)
        todo = {group: self._mine(rows) for group, rows in todo.items()}
        own = sum(len(names) for rows in todo.values() for _, names in rows)
        with self.progress.stage("answering", done + own, done, self._failures):
            for group, rows in todo.items():
                if not rows:
                    continue
                model = self.registry.load(list(group))
                at_once = max(1, self.plan.batch // len(group))
                for start in range(0, len(rows), at_once):
                    if self._stopping() or not self._answer_batch(model, rows[start : start + at_once]):
                        return False
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
        done, todo = len(answered) - len(todo), self._mine(todo)
        with self.progress.stage("scoring", done + len(todo), done, self._failures):
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
        if asked_to_stop(self.place.work):
            self.stop.set()
        return self.stop.is_set()


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
