"""On a Slurm cluster, through submitit: the batch job supervises the trainer as a local runner does.

The run's folder must be on a file system that the nodes share, as is usual; nothing else is: the store is not reached
from there. Settings of a job: ``slurm`` are submitit's own parameters (``slurm_partition``, ``timeout_min``, ...), with
``nodes`` for a run on several machines. The first node then supervises the run, the others take part in it.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.jobs import causes, processes
from app.jobs.early_stopping import watchful
from app.jobs.job import AT_ONCE, Job, JobError
from app.jobs.launchers.protocol import Polled
from app.jobs.launchers.slurm_nodes import Followers, follow, meeting
from app.jobs.supervise import OUTPUT, Attempt, Graces, ask_in_folder, attempt_folder, supervise
from wavalign.launch.commands import LaunchError, processes_on_each, train_command
from wavalign.training.journal import EVENTS

OUTCOME = "outcome.json"
_REPOSITORY = Path(__file__).resolve().parents[3]
_HOURS = 24
_SAVING_MINUTES = 30
_OVER = ("FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE")
_WORDS = {
    "TIMEOUT": "Slurm's time limit was reached. Resume goes on from the last checkpoint.",
    "OUT_OF_MEMORY": "The node ran out of memory. Ask for more, or lower micro_batch or rollouts.rows_at_once.",
    "CANCELLED": "It was cancelled in Slurm.",
    "NODE_FAIL": "The node failed. Resume goes on from the last checkpoint.",
}


def work(folder: str, number: int, tag: str, where: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What runs on a node: one attempt, supervised; its end is noted in the attempt's folder.

    ``where``: processes, nodes, home and assets of the run.
    """
    import submitit

    node = submitit.JobEnvironment()
    nodes = int(where["nodes"])
    command = settings.get("command") or train_command(
        folder, where["assets"], where["home"], where["processes"], nodes, meeting(node) if nodes > 1 else None
    )
    graces = Graces(**settings.get("graces", {}))
    attempt = Attempt(Path(folder), number, tag, list(command), settings.get("minutes"), {}, graces)
    path = attempt.place / OUTCOME
    if node.global_rank > 0:
        return follow(attempt, node.global_rank, path)
    watched, followers = watchful(attempt.folder, settings), Followers(attempt.place)
    ended = supervise(attempt, lambda: followers.lost() or watched())
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(ended)) + "\n", encoding="utf-8")
    temporary.replace(path)
    return ended.state


class Slurm:
    """``cluster`` of a job's settings: slurm, or submitit's "local" (a process here), with which this is tested."""

    def submit(self, job: Job, home: Path, assets: Path) -> Mapping[str, Any]:
        submitit = _submitit()
        place = attempt_folder(job.folder, job.attempt) / "submitit"
        minutes = job.minutes
        own = job.settings.get("slurm", {})
        nodes = int(own.get("nodes", 1))
        try:
            gpus = processes_on_each(job.processes, nodes)
        except LaunchError as error:
            raise JobError(str(error)) from error
        parameters: dict[str, Any] = {
            "name": job.name,
            "timeout_min": round(minutes + _SAVING_MINUTES) if minutes else 60 * _HOURS,
            "nodes": nodes,
            "tasks_per_node": 1,
            "gpus_per_node": gpus,
            **own,
        }
        cluster = job.settings.get("cluster")
        where = {"processes": job.processes, "nodes": nodes, "home": str(home), "assets": str(assets)}
        before = os.environ.get("PYTHONPATH")
        # The node must find this program; Slurm passes the submitter's environment on.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_REPOSITORY), before]))
        try:
            executor = submitit.AutoExecutor(folder=str(place), cluster=cluster)
            executor.update_parameters(**parameters)
            sent = executor.submit(work, str(job.folder), job.attempt, job.id, where, dict(job.settings))
        except Exception as error:  # submitit raises whatever sbatch said
            raise JobError(f"Slurm did not take the job: {causes.first_line(error)}") from error
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        return {"id": sent.job_id, "folder": str(place), "cluster": executor.cluster}

    def poll(self, job: Job) -> Polled:
        place = attempt_folder(job.folder, job.attempt)
        try:
            ended = json.loads((place / OUTCOME).read_text(encoding="utf-8"))
            return Polled(ended["state"], ended["reason"])
        except (OSError, ValueError, KeyError):
            pass
        state = self._slurm_state(job)
        if state == "CANCELLED" and job.asked:
            return Polled("stopped", "Cancelled in Slurm, on request.")
        if state in _OVER or (state == "COMPLETED" and not (place / OUTCOME).exists()):
            return Polled("crashed", _WORDS.get(state, f"Slurm says {state}, and there is no result."))
        if state == "PENDING":
            return Polled("starting", "Slurm: waits for a node.")
        return Polled("running" if _loaded(job) else "starting")

    def logs(self, job: Job, size: int) -> str:
        return causes.tail(attempt_folder(job.folder, job.attempt) / OUTPUT, size)

    def stop(self, job: Job, level: int) -> None:
        ask_in_folder(job.folder, level, job.attempt)
        on_cluster = (job.handle or {}).get("cluster") == "slurm"
        if on_cluster and (level >= AT_ONCE or self._slurm_state(job) == "PENDING"):
            self._job(job).cancel()

    def fetch(self, job: Job) -> None:
        """The file system is shared."""

    def _slurm_state(self, job: Job) -> str:
        handle = job.handle or {}
        if handle.get("cluster") != "slurm":
            alive = processes.alive(int(handle["id"]))
            return "RUNNING" if alive else "FAILED"
        try:
            # Slurm adds words to some states: "CANCELLED by 0".
            return str(self._job(job).state).split(" ")[0].rstrip("+")
        except Exception:  # sacct is not always there; the folder tells when it is over
            return "UNKNOWN"

    def _job(self, job: Job) -> Any:
        from submitit.slurm.slurm import SlurmJob

        return SlurmJob(folder=job.handle["folder"], job_id=job.handle["id"])


def _loaded(job: Job) -> bool:
    try:
        lines = (job.folder / EVENTS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any(f'"attempt": {job.attempt}, "event": "prepared"' in line for line in lines)


def _submitit() -> Any:
    if importlib.util.find_spec("submitit") is None:
        raise JobError("The launcher slurm needs submitit: pip install submitit.")
    import submitit

    return submitit
