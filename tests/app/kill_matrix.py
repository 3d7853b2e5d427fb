"""Kills real processes of real jobs at random steps, and checks what must hold afterwards.

python -m tests.app.kill_matrix --rounds 20    the toy trainer, every kill, at random steps
python -m tests.app.kill_matrix_real           the real trainer on a tiny model (minutes)
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.jobs import processes
from app.jobs.job import ACTIVE, Job
from app.jobs.jobs import Jobs
from app.store import open_store
from tests.app.jobs_bench import REPOSITORY, JobsBench, straight
from wavalign.training import checkpoints
from wavalign.training.journal import CHECKPOINTS, read_lines, read_metrics

STEPS, EVERY = 40, 5
HELD = STEPS - EVERY
"""A run goes no further before its kill, however long that takes to come."""
WATCHING = "It watches."


@dataclass(frozen=True)
class Kill:
    """``saving``: in the middle of writing a checkpoint. ``ends`` are the states that the first attempt may end in."""

    whom: Literal["trainer", "runner", "app"]
    number: signal.Signals
    ends: tuple[str, ...]
    saving: bool = False

    @property
    def name(self) -> str:
        return f"{self.number.name} of the {self.whom}{' while it saves' if self.saving else ''}"


KILLS = (
    Kill("trainer", signal.SIGKILL, ("crashed",)),
    Kill("trainer", signal.SIGKILL, ("crashed",), saving=True),
    Kill("trainer", signal.SIGTERM, ("stopped",)),
    Kill("runner", signal.SIGKILL, ("crashed",)),
    Kill("runner", signal.SIGTERM, ("stopped",)),
    Kill("app", signal.SIGKILL, ("completed",)),
)


def one_kill(bench: JobsBench, kill: Kill, step: int) -> None:
    """One job, killed once at ``step`` or later, then resumed to its end.

    Raises:
        AssertionError: when something that must hold does not.
    """
    saving = EVERY * (step // EVERY + 1)
    held = ["--hold-saving", str(saving)] if kill.saving else ["--hold", str(HELD)]
    job = bench.start("--steps", str(STEPS), "--every", str(EVERY), *held)
    bench.at(job, step)
    if kill.saving:
        bench.until((job.folder / CHECKPOINTS / f".tmp-step-{saving}").is_dir)
    _kill(bench, job, kill)
    if kill.whom == "app":  # which ends nothing
        bench.let_go(job)
    ended = bench.ended(job)
    assert ended.state in kill.ends, f"{kill.name}: {ended.state}, {ended.reason}"
    _free(bench, job)
    saved = checkpoints.latest(job.folder / CHECKPOINTS)
    assert saved is not None
    assert saved.state["weights"] == straight(saved.step)
    if ended.state != "completed":
        bench.let_go(job)
        bench.jobs.resume(job.id)
        assert bench.ended(job).state == "completed"
        _free(bench, job)
    assert [line["step"] for line in read_metrics(job.folder)] == list(range(1, STEPS + 1))
    per_attempt = [(line["attempt"], line["step"]) for line in read_lines(job.folder / "metrics.jsonl")]
    assert len(set(per_attempt)) == len(per_attempt)
    assert (job.folder / "weights").read_text() == straight(STEPS)


def _kill(bench: JobsBench, job: Job, kill: Kill) -> None:
    if kill.whom == "trainer":
        bench.kill(bench.trainer(job), kill.number)
    elif kill.whom == "runner":
        bench.kill(bench.until(lambda: bench.get(job).runner), kill.number)
    else:
        # Another process that watches the same home, as an app does, dies with the job under way.
        command = [sys.executable, "-m", "tests.app.kill_matrix", "--watch", str(bench.home)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watcher:
            try:
                assert watcher.stdout.readline() == f"{WATCHING}\n"
            finally:
                watcher.send_signal(kill.number)
        assert bench.get(job).state in ACTIVE


def _free(bench: JobsBench, job: Job) -> None:
    assert processes.tagged(job.id) == []
    assert job.id not in bench.jobs.queue.holds().values()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--watch", type=Path, help="be an app that watches this home")
    options = parser.parse_args()
    if options.watch:
        jobs = Jobs(open_store(options.watch), options.watch, REPOSITORY / "assets")
        jobs.watch()
        print(WATCHING, flush=True)
        time.sleep(3600)
    else:
        for number in range(options.rounds):
            for kill in KILLS:
                with tempfile.TemporaryDirectory() as scratch:
                    bench = JobsBench(Path(scratch))
                    step = random.randint(1, STEPS - 12)
                    try:
                        one_kill(bench, kill, max(step, 5))
                    finally:
                        bench.close()
                print(f"round {number + 1}: {kill.name} at step {step}: holds", flush=True)


if __name__ == "__main__":
    main()
