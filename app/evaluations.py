"""Evaluations of checkpoints as jobs: the same queue, device lock, runner and end as training, folders of their own.

An evaluation waits until a device is free, survives the app, is stopped as a run is, and goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from app.jobs.job import FINAL, Job, JobError
from app.jobs.jobs import Jobs

if TYPE_CHECKING:  # torch takes seconds to import: the page is up before it is
    from evaluation.assess_plan import Plan

KIND = "evaluation"
"""``settings["kind"]`` of the job; runs of training have none."""
FOLDER = "evaluations"
PROGRESS, REPORT = "progress.json", "report.json"
_SOUND = re.compile(r"sounds/[^/]+/[0-9a-f]{20}\.wav")
Json = dict[str, Any]


def is_evaluation(job: Job) -> bool:
    return job.settings.get("kind") == KIND


class Evaluations:
    """Those of one home."""

    def __init__(self, jobs: Jobs, home: Path, assets: Path) -> None:
        self.jobs, self.home, self.assets = jobs, home, assets

    def start(self, plan: Plan) -> Job:
        """Queues an evaluation.

        Raises:
            JobError: one sentence, when it could not begin or its row could not be written; then nothing was made.
        """
        from evaluation.assess_plan import write_plan

        self._check(plan)
        folder = self._new_folder()
        try:
            write_plan(folder, plan)
            command = [sys.executable, "-m", "evaluation.run", "compare", "--out", str(folder), "--quiet"]
            command += ["--assets", str(self.assets), "--home", str(self.home)]
            settings = {"kind": KIND, "command": command, "graces": {"ask": 60.0}}
            job = self.jobs.queue.add(folder.name, folder, settings=settings)
        except (OSError, SQLAlchemyError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise JobError(f"The evaluation could not be noted: {str(error).splitlines()[0]}") from error
        self.jobs.look()
        return job

    def list(self) -> list[Job]:
        """The newest first."""
        return [job for job in self.jobs.queue.jobs() if is_evaluation(job)]

    def get(self, id: str) -> Job:
        """Raises:
        JobError: when there is no such evaluation.
        """
        job = self.jobs.queue.get(id)
        if not is_evaluation(job):
            raise JobError("That is not an evaluation.")
        return job

    def resume(self, id: str) -> Job:
        """Queues it again: it goes on, and tries again what failed.

        Raises:
            JobError: when it is under way.
        """
        job = self.get(id)
        retry = [*job.settings["command"], *(["--retry"] if "--retry" not in job.settings["command"] else [])]
        settings = {**job.settings, "command": retry}
        fields = {"reason": None, "at": time.time(), "ended": None, "settings": settings}
        if not self.jobs.queue.move(id, FINAL, "queued", **fields):
            raise JobError(f"{job.name} is {job.state} already.")
        self.jobs.look()
        return self.jobs.queue.get(id)

    def delete(self, id: str) -> None:
        """Removes an evaluation that is over, with its recordings and reports.

        Raises:
            JobError: when it is under way or waits.
        """
        job = self.get(id)
        if job.folder.resolve().parent != (self.home / FOLDER).resolve():
            raise JobError(f"{job.folder} is not in {self.home / FOLDER}; it is not deleted from here.")
        if not self.jobs.queue.remove(id):
            raise JobError(f"{job.name} is {job.state}: stop it first.")
        doomed = job.folder.with_name(f".deleted-{uuid.uuid4().hex[:8]}")
        with contextlib.suppress(FileNotFoundError):
            job.folder.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def progress(self, job: Job) -> Json:
        """Stage, done, total, failed and seconds_left; empty before there are any."""
        return _read(job.folder / PROGRESS)

    def plan(self, job: Job) -> Plan | None:
        from evaluation.assess_plan import PlanError, read_plan

        try:
            found = read_plan(job.folder)
        except PlanError:
            return None
        return found[0] if found else None

    def report(self, job: Job) -> Json | None:
        """The comparison, once there is one."""
        return _read(job.folder / REPORT) or None

    def sound(self, job: Job, path: str) -> Path:
        """A recording of the report.

        Raises:
            JobError: when there is no such recording.
        """
        place = job.folder / path
        if not _SOUND.fullmatch(path) or ".." in path or not place.is_file():
            raise JobError("That recording is not there any more.")
        return place

    def write_card(self, job: Job, checkpoint: str) -> Path:
        """Puts the report's section into the model card of an adapter of this home.

        Raises:
            JobError: when there is no report, or the checkpoint is not one of this home's adapters.
        """
        from evaluation.assess_plan import PlanError
        from evaluation.report_card import add_to_card
        from wavalign.models.protocol import CheckpointError
        from wavalign.models.registry import HOME_FOLDER, Registry

        try:
            adapter = Registry(self.assets, self.home).checkpoint(checkpoint).adapter
            if adapter is None or self.home.resolve() not in adapter.resolve().parents:
                places = f"{self.home / HOME_FOLDER}"
                raise JobError(f'"{checkpoint}" is not an adapter of yours: cards are written in {places} and in runs.')
            return add_to_card(adapter / "README.md", job.folder, checkpoint)
        except (PlanError, CheckpointError) as error:
            raise JobError(str(error)) from error

    def _check(self, plan: Plan) -> None:
        """What would end it in its first seconds is told at once."""
        from evaluation.tasks.protocol import TaskContext, TaskError
        from evaluation.tasks.registry import create
        from wavalign.models.registry import Registry

        known = Registry(self.assets, self.home).names()
        if missing := [name for name in plan.checkpoints if name not in known]:
            raise JobError(f'There is no checkpoint "{missing[0]}".')
        context = TaskContext(self.assets, plan.data, plan.judge)
        try:
            for name in plan.tasks:
                if not len(create(name, context).items(1, plan.seed)):
                    raise JobError(f"{name} has no prompts.")
        except TaskError as error:
            raise JobError(str(error)) from error

    def _new_folder(self) -> Path:
        places = self.home / FOLDER
        try:
            places.mkdir(parents=True, exist_ok=True)
            number = 1
            while True:
                folder = places / f"evaluation-{number:03d}"
                with contextlib.suppress(FileExistsError):
                    folder.mkdir()
                    return folder
                number += 1
        except OSError as error:
            raise JobError(f"The evaluation's folder cannot be made in {places}: {error.strerror}.") from error


def _read(path: Path) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
