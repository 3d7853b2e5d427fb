"""What the Train page's script asks of the server: one message in, one answer out, plain JSON."""

from __future__ import annotations

import base64
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import OperationalError

from app.components import config_form, training_plots
from app.evaluations import is_evaluation
from app.jobs import causes, listening
from app.jobs.bundle import bundle
from app.jobs.job import AT_ONCE, GENTLY, Job, JobError
from app.jobs.jobs import Jobs
from app.jobs.launchers import launcher
from app.jobs.promote import Measure, Promotions
from app.jobs.summary import RunBook, summary
from app.pages.train_form import DEMO_MINUTES, TrainForm
from app.services import Services
from app.store import StoreError

Json = dict[str, Any]
MOST_RUNS = 200
MOST_SHOWN = 10
LOG_SIZE = 20_000
MEASURING_SECONDS = 120
"""Of a lent GPU, for what is promoted."""
READING_SECONDS = 0.15
"""Of long runs that were never looked at, a look reads so much and the next one goes on."""


@dataclass
class TrainDesk:
    """``answer`` takes {"do": ..., ...} and gives plain JSON; what went wrong is {"error": sentence}."""

    services: Services
    book: RunBook = field(default_factory=RunBook)

    def __post_init__(self) -> None:
        self.form = TrainForm(self.services)
        self._promotions: Promotions | None = None
        self._opening = threading.Lock()

    @property
    def jobs(self) -> Jobs:
        return self.services.jobs

    @property
    def promotions(self) -> Promotions:
        with self._opening:
            if self._promotions is None:
                home, assets = self.services.settings.home, self.services.settings.assets
                self._promotions = Promotions(self.jobs.queue, home, assets, measure=self._measure_on_lent_gpu())
        return self._promotions

    def _measure_on_lent_gpu(self) -> Measure | None:
        """None where the app's own process may compute."""
        gpu = self.services.gpu
        if gpu is None:
            return None
        return lambda *what: gpu.work("app.jobs.promote:compare", what, max(MEASURING_SECONDS, gpu.slice_seconds))

    def answer(self, message: Any) -> Json:
        acts: dict[str, Callable[[Mapping[str, Any]], Json]] = {
            "hello": self._hello,
            "fill": self.form.filled,
            "check": self.form.checked,
            "start": self._start,
            "demo": self._demo,
            "price": self._price,
            "watch": self._watch,
            "stop": self._stop,
            "resume": self._resume,
            "clone": self._clone,
            "contents": self._contents,
            "delete": self._delete,
            "prefer": self._prefer,
            "note": self._note,
            "log": self._log,
            "listen": self._listen,
            "sound": self._sound,
            "compare": self._compare,
            "download": self._download,
            "promote": self._promote,
        }
        try:
            if not isinstance(message, dict) or message.get("do") not in acts:
                raise JobError("That is not a message this page sends.")
            return acts[message["do"]](message)
        except (JobError, StoreError) as error:
            return {"error": str(error)}
        except (OSError, OperationalError) as error:
            traceback.print_exception(error, file=sys.stderr)
            return {"error": causes.plainly(causes.first_line(error))}
        except Exception as error:  # the outermost boundary: a sentence goes out, the traceback is logged
            traceback.print_exception(error, file=sys.stderr)
            return {"error": "Something went wrong here, and was logged. Try again."}

    def _hello(self, message: Mapping[str, Any]) -> Json:
        return {"form": self.form.described(), "panels": training_plots.panels(), "most": MOST_SHOWN}

    def _start(self, message: Mapping[str, Any]) -> Json:
        config, problems, rest = self.form.wanted(message)
        if config is None:
            return {"problems": problems}
        return {"job": self.jobs.start(config, **rest).id}

    def _demo(self, message: Mapping[str, Any]) -> Json:
        return {
            "job": self.jobs.start(self.form.demo(), launcher=self.services.launchers()[0], minutes=DEMO_MINUTES).id
        }

    def _price(self, message: Mapping[str, Any]) -> Json:
        """What a rented job would cost, before anything is sent."""
        from app.jobs.launchers.hf_jobs import price

        try:
            minutes = float(message.get("minutes") or 0)
        except (TypeError, ValueError):
            minutes = 0.0
        if not minutes > 0:
            raise JobError("hf-jobs needs minutes at most: its price and its timeout come from them.")
        flavor = str(message.get("flavor") or "cpu-basic")
        return {"words": price(flavor, minutes).words(flavor, minutes)}

    def _watch(self, message: Mapping[str, Any]) -> Json:
        """All lines, and of the ``shown`` runs ({id, colour, version}) the curves of those that have grown."""
        newest = [job for job in self.jobs.queue.jobs() if not is_evaluation(job)][:MOST_RUNS]
        places = self.jobs.places()
        lines, curves = [], {}
        wanted = message.get("shown") if isinstance(message.get("shown"), list) else []
        shown = {each["id"]: each for each in wanted[:MOST_SHOWN] if isinstance(each, dict) and "id" in each}
        memory = min(0.99, max(0.0, float(message.get("memory") or 0.0)))
        points = max(120, training_plots.POINTS // max(1, len(shown) // 2))
        until = time.monotonic() + READING_SECONDS
        for job in sorted(newest, key=lambda each: each.id not in shown):  # what is drawn is read first
            self.book.run(job.folder, until)
        behind = False
        for job in newest:
            run = self.book.run(job.folder, 0.0)
            behind = behind or run.series.behind
            line = summary(job, run, places.get(job.id))
            if promotion := (self._promotions.of(job.id) if self._promotions else None):
                line["promotion"] = {"state": promotion.state, "words": promotion.words, "name": promotion.name}
            lines.append(line)
            if job.id in shown and shown[job.id].get("version") != run.series.version:
                colour = str(shown[job.id].get("colour") or training_plots.COLOURS[0])
                curves[job.id] = {
                    "version": run.series.version,
                    "traces": training_plots.traces(run.series, job.name, colour, memory, points),
                }
        return {"runs": lines, "curves": curves, "trouble": self.jobs.trouble, "behind": behind}

    def _stop(self, message: Mapping[str, Any]) -> Json:
        return {"said": self.jobs.stop(self._job(message).id, AT_ONCE if message.get("at_once") else GENTLY)}

    def _resume(self, message: Mapping[str, Any]) -> Json:
        return {"job": self.jobs.resume(self._job(message).id).id}

    def _clone(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        config = self.book.run(job.folder).config
        if config is None:
            raise JobError(f"The config of {job.name} cannot be read.")
        return self.form.shown(config.model_dump(mode="json")) | {"minutes": job.minutes, "name": job.name}

    def _contents(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        return {"name": job.name, "words": self.jobs.contents(job.id).words()}

    def _delete(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        self.jobs.delete(job.id)
        self.book.forget(job.folder)
        return {"said": f"{job.name} is deleted."}

    def _prefer(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        self.jobs.prefer(job.id, job.priority + (1 if message.get("more") else -1))
        return {}

    def _note(self, message: Mapping[str, Any]) -> Json:
        self.jobs.note(self._job(message).id, str(message.get("text") or ""))
        return {}

    def _log(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        return {"text": launcher(job.launcher).logs(job, LOG_SIZE) if job.attempt else ""}

    def _listen(self, message: Mapping[str, Any]) -> Json:
        return listening.grid(self._job(message).folder)

    def _sound(self, message: Mapping[str, Any]) -> Json:
        try:
            step = int(message.get("step", -1))
        except (TypeError, ValueError):
            raise JobError("That is not a step.") from None
        data = listening.recording(self._job(message).folder, step, str(message.get("file")))
        return {"wav": base64.b64encode(data).decode("ascii")}

    def _compare(self, message: Mapping[str, Any]) -> Json:
        one, other = (self._job({"job": message.get(side)}) for side in ("one", "other"))
        configs = [self.book.run(job.folder).config for job in (one, other)]
        if None in configs:
            raise JobError("The config of one of them cannot be read.")
        rows = [list(row) for row in config_form.differences(*configs) if row[0] != "name"]
        return {"names": [one.name, other.name], "rows": rows}

    def _download(self, message: Mapping[str, Any]) -> Json:
        """The run as a zip: everything but the checkpoints' optimiser states, which only resuming needs."""
        job = self._job(message)
        path = self.services.recordings.place(f"{job.name}.zip")
        try:
            bundle(job.folder, path)
        except BaseException:
            shutil.rmtree(path.parent, ignore_errors=True)
            raise
        return {"path": str(path), "name": path.name, "megabytes": round(path.stat().st_size / 1e6, 1)}

    def _promote(self, message: Mapping[str, Any]) -> Json:
        job = self._job(message)
        self.promotions.begin(job, str(message.get("name") or "").strip())
        return {"said": "Measuring it first; this takes a moment."}

    def _job(self, message: Mapping[str, Any]) -> Job:
        id = message.get("job")
        if not isinstance(id, str):
            raise JobError("Which run?")
        return self.jobs.queue.get(id)
