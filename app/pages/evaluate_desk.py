"""What the Evaluate page's script asks of the server: one message in, one answer out, plain JSON."""

from __future__ import annotations

import base64
import importlib
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from app.evaluations import Evaluations
from app.jobs.job import ACTIVE, FINAL, Job, JobError
from app.jobs.launchers import launcher
from app.services import DEFAULT_CHECKPOINT, Services
from app.store import StoreError
from evaluation.report_html import body

if TYPE_CHECKING:  # torch takes seconds to import: the page is up before it is
    from evaluation.assess_plan import Plan

Json = dict[str, Any]
SHIPPED = "closedtalk"
PROMPTS = 60
_MOST_RUNS = 100
_LONGEST = 500
_FILES = {"html": "report.html", "json": "report.json"}


@dataclass
class EvaluateDesk:
    """``answer`` takes {"do": ..., ...} and gives plain JSON; what went wrong is {"error": sentence}."""

    services: Services

    @cached_property
    def evaluations(self) -> Evaluations:
        settings = self.services.settings
        return Evaluations(self.services.jobs, settings.home, settings.assets)

    def answer(self, message: Any) -> Json:
        acts: dict[str, Callable[[Mapping[str, Any]], Json]] = {
            "hello": self._hello,
            "start": self._start,
            "watch": self._watch,
            "stop": self._stop,
            "resume": self._resume,
            "delete": self._delete,
            "report": self._report,
            "sound": self._sound,
            "log": self._log,
            "card": self._card,
            "download": self._download,
        }
        try:
            if not isinstance(message, dict) or message.get("do") not in acts:
                raise JobError("That is not a message this page sends.")
            return acts[message["do"]](message)
        except (JobError, StoreError) as error:
            return {"error": str(error)}
        except Exception as error:  # the outermost boundary: a sentence goes out, the traceback is logged
            traceback.print_exception(error, file=sys.stderr)
            return {"error": "Something went wrong here, and was logged. Try again."}

    def _hello(self, message: Mapping[str, Any]) -> Json:
        from evaluation.tasks.registry import TASKS

        names = list(self.services.all_names())
        return {
            "checkpoints": names,
            "baseline": DEFAULT_CHECKPOINT if DEFAULT_CHECKPOINT in names else next(iter(names), ""),
            "tasks": [_task(name) for name in TASKS],
            "prompts": PROMPTS,
        }

    def _start(self, message: Mapping[str, Any]) -> Json:
        from evaluation.assess_plan import PlanError

        try:
            return {"job": self.evaluations.start(_plan(message)).id}
        except PlanError as error:
            raise JobError(str(error)) from error

    def _watch(self, message: Mapping[str, Any]) -> Json:
        places = self.evaluations.jobs.places()
        return {"runs": [self._line(job, places.get(job.id)) for job in self.evaluations.list()[:_MOST_RUNS]]}

    def _line(self, job: Job, place: int | None) -> Json:
        plan = self.evaluations.plan(job)
        words = ""
        if plan is not None:
            others = ", ".join(plan.checkpoints[1:])
            against = f"{others} against {plan.baseline}" if others else plan.baseline
            words = f"{against} on {', '.join(plan.tasks)}"
        progress = self.evaluations.progress(job) if job.state in (*ACTIVE, *FINAL) else {}
        return {
            "id": job.id,
            "name": job.name,
            "words": words,
            "state": job.state,
            "reason": job.reason or ("" if place is None else _waiting(place)),
            "active": job.state in ACTIVE or job.state == "queued",
            "progress": progress,
            "report": (job.folder / _FILES["json"]).is_file() and job.state == "completed",
            "checkpoints": list(plan.checkpoints) if plan else [],
        }

    def _stop(self, message: Mapping[str, Any]) -> Json:
        return {"said": self.evaluations.jobs.stop(self._job(message).id)}

    def _resume(self, message: Mapping[str, Any]) -> Json:
        return {"job": self.evaluations.resume(self._job(message).id).id}

    def _delete(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        self.evaluations.delete(job.id)
        return {"said": f"{job.name} is deleted."}

    def _report(self, message: Mapping[str, Any]) -> Json:
        """The report as a part of the page; its sounds are fetched when they are played."""
        job = self._job(message)
        found = self.evaluations.report(job)
        if found is None:
            raise JobError(f"{job.name} has no report yet.")

        def player(path: str, what: str) -> str:
            label = escape(f"Play {what}")
            return (
                f'<button type="button" class="eval-play" data-sound="{escape(path)}" aria-label="{label}">▶</button>'
            )

        return {"html": body(found, player)}

    def _sound(self, message: Mapping[str, Any]) -> Json:
        data = self.evaluations.sound(self._job(message), str(message.get("path"))).read_bytes()
        return {"wav": base64.b64encode(data).decode("ascii")}

    def _log(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        return {"text": launcher(job.launcher).logs(job, 20_000) if job.attempt else ""}

    def _card(self, message: Mapping[str, Any]) -> Json:
        name = str(message.get("checkpoint") or "")
        self.evaluations.write_card(self._job(message), name)
        return {"said": f"The model card of {name} has a section about this evaluation."}

    def _download(self, message: Mapping[str, Any]) -> Json:
        job, what = self._job(message), _FILES.get(str(message.get("what")))
        if what is None or not (job.folder / what).is_file():
            raise JobError(f"{job.name} has no such report yet.")
        path = self.services.recordings.place(f"{job.name}-{what}")
        shutil.copyfile(job.folder / what, path)
        return {"path": str(path), "name": path.name}

    def _job(self, message: Mapping[str, Any]) -> Job:
        id = message.get("job")
        if not isinstance(id, str):
            raise JobError("Which evaluation?")
        return self.evaluations.get(id)


def _task(name: str) -> Json:
    from evaluation.tasks.registry import TASKS

    module = importlib.import_module(TASKS[name].partition(":")[0])
    about = (module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    return {"name": name, "about": about, "shipped": name == SHIPPED, "hub": getattr(module, "HUB", "")}


def _waiting(place: int) -> str:
    ahead = place - 1
    return "Waits for the device." if not ahead else f"Waits for the device; {ahead} before it."


def _plan(message: Mapping[str, Any]) -> Plan:
    """From what the form sends; every field is checked again.

    Raises:
        PlanError: one sentence that names the field.
    """
    from evaluation.assess_plan import PlanError, make_plan
    from evaluation.tasks.registry import TASKS
    from wavalign.rewards.config import JudgeConfig

    fields: Json = {"checkpoints": _words(message, "checkpoints"), "tasks": _words(message, "tasks")}
    if len(fields["checkpoints"]) < 2:
        raise PlanError("Choose at least one checkpoint to compare with the first.")
    for name, kind in (("limit", int), ("samples", int), ("seed", int), ("temperature", float)):
        text = str(message.get(name) or "").strip()
        if text:
            try:
                fields[name] = kind(text)
            except ValueError:
                raise PlanError(f"{name}: a number is needed, got {text[:40]!r}.") from None
    fields["dnsmos"] = message.get("dnsmos") is not False
    if recogniser := str(message.get("recogniser") or "").strip()[:_LONGEST]:
        fields["recogniser"] = recogniser
    data = message.get("data") if isinstance(message.get("data"), dict) else {}
    fields["data"] = {
        str(name): str(place).strip()[:_LONGEST] for name, place in data.items() if name in TASKS and str(place).strip()
    }
    url, model = (str(message.get(name) or "").strip()[:_LONGEST] for name in ("judge_url", "judge_model"))
    if url or model:
        if not (url and model):
            raise PlanError("A judge needs both an address and a model.")
        try:
            fields["judge"] = JudgeConfig(url=url, model=model)
        except ValueError:
            raise PlanError(f"The judge's address must start with http:// or https://, got {url[:80]!r}.") from None
    return make_plan(**fields)


def _words(message: Mapping[str, Any], name: str) -> tuple[str, ...]:
    from evaluation.assess_plan import PlanError

    given = message.get(name)
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise PlanError(f"{name}: a list of names is needed.")
    return tuple(each[:_LONGEST] for each in given[:20])
