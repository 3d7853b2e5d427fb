"""On rented hardware, through Hugging Face Jobs: the run travels through a private dataset repository and back.

Settings of a job: ``flavor`` (the hardware), ``image``, ``repo`` (default: USER/wavalign-runs). A budget in minutes is
needed: the price that is told before the start, and the timeout that bounds it, come from it.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from app.jobs.job import AT_ONCE, Job, JobError
from app.jobs.launchers.protocol import Polled
from app.jobs.supervise import OUTPUT, attempt_folder
from wavalign.models.registry import HOME_FOLDER, Registry
from wavalign.training.config_files import load_config
from wavalign.training.journal import CONFIG

OUTCOME = "outcome.json"
IMAGE = "python:3.12"
WORK = "/wavalign"
"""Where the rented machine keeps program, run and checkpoints."""
SETUP_MINUTES = (4.0, 12.0)
"""From the start of the machine to the first step: images, packages, weights."""
_REPOSITORY = Path(__file__).resolve().parents[3]
_CODE = ("app", "wavalign", "evaluation", "assets", "requirements.txt")
_POLL_SECONDS, _FETCH_SECONDS = 20.0, 60.0
_UNREACHABLE = (*HfHubHTTPError.__bases__, LocalTokenNotFoundError)


@dataclass(frozen=True)
class Price:
    """US dollars, from what is likely at least to what the timeout allows at most. ``timeout_minutes`` bounds it."""

    low: float
    high: float
    timeout_minutes: int
    a_minute: float

    def words(self, flavor: str, minutes: float) -> str:
        return (
            f"{minutes:g} minutes of training on {flavor} cost ${self.low:.2f} to ${self.high:.2f}, the time to set up "
            f"included. After {self.timeout_minutes} minutes it is ended whatever happens."
        )


def price(flavor: str, minutes: float, api: HfApi | None = None) -> Price:
    """Raises:
    JobError: when there is no such hardware, or the Hub cannot be reached.
    """
    try:
        offered = {each.name: each for each in (api or HfApi()).list_jobs_hardware()}
    except _UNREACHABLE as error:
        raise JobError(f"Hugging Face cannot be asked for its prices: {error}") from error
    if flavor not in offered:
        raise JobError(f'There is no hardware "{flavor}"; there is: {", ".join(offered)}.')
    unit = offered[flavor]
    a_minute = unit.unit_cost_usd / (60 if unit.unit_label == "hour" else 1)
    timeout = math.ceil(1.2 * minutes + SETUP_MINUTES[1])
    return Price(a_minute * (minutes + SETUP_MINUTES[0]), a_minute * timeout, timeout, a_minute)


class HfJobs:
    """What it remembers is only when it last asked, so that the Hub is not asked every few seconds."""

    _asked: dict[str, float] = {}  # noqa: RUF012
    _fetched: dict[str, float] = {}  # noqa: RUF012

    def __init__(self, api: HfApi | None = None) -> None:
        self.api = api or HfApi()

    def submit(self, job: Job, home: Path, assets: Path) -> Mapping[str, Any]:
        if job.minutes is None:
            raise JobError("hf-jobs needs a budget in minutes: its price and its timeout come from it.")
        flavor = job.settings.get("flavor") or "cpu-basic"
        cost = price(flavor, job.minutes, self.api)
        try:
            user = self.api.whoami()["name"]
            repo = job.settings.get("repo") or f"{user}/wavalign-runs"
            self.api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
            own = [(home / HOME_FOLDER / name, f"home/{HOME_FOLDER}/{name}") for name in _bases(job, home, assets)]
            code = [(_REPOSITORY / name, f"code/{name}") for name in _CODE]
            self._send(repo, [*code, *own, (job.folder, f"runs/{job.folder.name}")], f"Send {job.folder.name}")
            sent = self.api.run_job(
                image=job.settings.get("image") or IMAGE,
                command=["bash", "-c", script(repo, job)],
                env={"PYTHONUNBUFFERED": "1"},
                secrets={"HF_TOKEN": self.api.token or _token()},
                flavor=flavor,
                timeout=60 * cost.timeout_minutes,
                labels={"wavalign": job.id},
                namespace=user,
            )
        except _UNREACHABLE as error:
            raise JobError(f"Hugging Face did not take the job: {error}") from error
        found = {"id": sent.id, "namespace": user, "repo": repo, "flavor": flavor}
        return {**found, "most_usd": round(cost.high, 2), "usd_a_minute": cost.a_minute}

    def poll(self, job: Job) -> Polled:
        now = time.monotonic()
        if now - self._asked.get(job.id, float("-inf")) < _POLL_SECONDS:
            return Polled(None)
        self._asked[job.id] = now
        try:
            found = self.api.inspect_job(job_id=job.handle["id"], namespace=job.handle["namespace"])
        except _UNREACHABLE as error:
            raise JobError(f"Hugging Face cannot be asked just now: {error}") from error
        stage = str(getattr(found.status.stage, "value", found.status.stage))
        if stage == "SCHEDULING":
            return Polled("starting", f"Waits for {job.handle['flavor']}.")
        if stage == "RUNNING":
            return Polled("running", f"On {job.handle['flavor']}, at most ${job.handle['most_usd']:.2f}.")
        self.fetch(job, again=True)
        try:
            ended = json.loads((attempt_folder(job.folder, job.attempt) / OUTCOME).read_text(encoding="utf-8"))
            return Polled(ended["state"], ended["reason"])
        except (OSError, ValueError, KeyError):
            pass
        if stage == "CANCELED":
            return Polled("stopped", "It was cancelled. Resume goes on from the last checkpoint that was sent.")
        said = found.status.message or "it ended without a result"
        return Polled("crashed", f"Hugging Face says: {said}. Resume goes on from the last checkpoint that was sent.")

    def logs(self, job: Job, size: int) -> str:
        try:
            lines = self.api.fetch_job_logs(job_id=job.handle["id"], namespace=job.handle["namespace"], tail=200)
            return "\n".join(lines)[-size:]
        except (_UNREACHABLE, TypeError):  # not handed over yet, or out of reach: what was fetched
            path = attempt_folder(job.folder, job.attempt) / OUTPUT
            return path.read_text(encoding="utf-8", errors="replace")[-size:] if path.is_file() else ""

    def stop(self, job: Job, level: int) -> None:
        where = {"job_id": job.handle["id"], "namespace": job.handle["namespace"]}
        try:
            if level >= AT_ONCE:
                self.api.cancel_job(**where)
            else:
                self.api.upload_file(
                    path_or_fileobj=b'{"stop": true}\n',
                    path_in_repo=f"asked/{job.folder.name}-{job.attempt}.json",
                    repo_id=job.handle["repo"],
                    repo_type="dataset",
                )
        except _UNREACHABLE as error:
            raise JobError(f"Hugging Face cannot be reached: {error}") from error

    def fetch(self, job: Job, again: bool = False) -> None:
        now = time.monotonic()
        if not again and now - self._fetched.get(job.id, float("-inf")) < _FETCH_SECONDS:
            return
        self._fetched[job.id] = now
        try:
            place = job.folder.parent / ".fetched" / job.folder.name
            self.api.snapshot_download(
                job.handle["repo"],
                repo_type="dataset",
                allow_patterns=[f"runs/{job.folder.name}/**"],
                local_dir=str(place),
            )
        except _UNREACHABLE as error:
            raise JobError(f"The run could not be fetched: {error}") from error
        _bring(place / "runs" / job.folder.name, job.folder)

    def _send(self, repo: str, places: Sequence[tuple[Path, str]], message: str) -> None:
        """One commit; the Hub keeps what it has already."""
        operations = [
            CommitOperationAdd(path_in_repo=f"{where}{name}", path_or_fileobj=path)
            for folder, where in places
            for path, name in _files(folder)
        ]
        self.api.create_commit(repo, operations, commit_message=message, repo_type="dataset")


def script(repo: str, job: Job) -> str:
    """What the rented machine does: fetch program and run, install, work, send back."""
    name = job.folder.name
    patterns = " ".join(shlex.quote(each) for each in ("code/**", f"runs/{name}/**", "home/**"))
    worker = f"python -m app.jobs.launchers.hf_worker {shlex.quote(repo)} {shlex.quote(name)} {job.attempt} {job.id}"
    early = " --stop-on-alarm" if job.settings.get("stop_on_alarm") else ""
    early += f" --patience {int(job.settings['patience'])}" if job.settings.get("patience") else ""
    return (
        "set -e; pip install -q huggingface_hub; "
        f"hf download {shlex.quote(repo)} --repo-type dataset --local-dir {WORK} --include {patterns}; "
        f"cd {WORK}/code; pip install -q -r requirements.txt; "
        f"exec {worker} --minutes {job.minutes:g} --processes {job.processes}{early}"
    )


def _files(place: Path) -> Iterator[tuple[Path, str]]:
    """The files at a place, each with its path below it; what is half-written or compiled is left out."""
    if place.is_file():
        yield place, ""
        return
    for path in sorted(place.rglob("*")):
        parts = path.relative_to(place).parts
        skipped = any(part == "__pycache__" or part.startswith(".tmp-") for part in parts) or path.suffix == ".tmp"
        if path.is_file() and not skipped:
            yield path, "/" + "/".join(parts)


def _bases(job: Job, home: Path, assets: Path) -> list[str]:
    """The checkpoints of the user's own that the run starts from: an adapter and its base."""
    checkpoint = Registry(assets, home).checkpoint(load_config(job.folder / CONFIG).base)
    names = dict.fromkeys([checkpoint.name, checkpoint.base_name])
    return [name for name in names if (home / HOME_FOLDER / name).is_dir()]


def _bring(source: Path, target: Path) -> None:
    """Copies what is new or changed, each file whole before it is seen."""
    for path in sorted(source.rglob("*")) if source.is_dir() else ():
        if not path.is_file():
            continue
        there = target / path.relative_to(source)
        if there.is_file() and there.stat().st_size == path.stat().st_size and path.suffix not in (".json", ".yaml"):
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        temporary = there.with_name(f".{there.name}.tmp")
        temporary.write_bytes(path.read_bytes())
        temporary.replace(there)


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise JobError("hf-jobs needs a token: hf auth login, or HF_TOKEN.")
    return token
