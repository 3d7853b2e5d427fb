"""A run on several nodes: where they meet, what those after the first do, and how the first learns that one is lost.

The first node supervises the run and writes its outcome. The others run the same command, keep their own logs, and end
with the first. When one of them ends badly it leaves a note, since its peers would wait for it for minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.jobs import causes, processes
from app.jobs.job import AT_ONCE
from app.jobs.supervise import CRASHED, Asked, Attempt, environment
from wavalign.launch.commands import Meeting

_FIRST_PORT, _PORTS = 20_000, 20_000
_AFTER_SECONDS = 60.0
"""For how long a node may go on after the first has ended."""
_LOOK_SECONDS = 1.0


def meeting(node: Any) -> Meeting:
    """The first node of a submitit job, and a port that other jobs there are unlikely to have chosen."""
    number = int("".join(filter(str.isdigit, node.job_id)) or 0)
    return Meeting(node.hostnames[0], _FIRST_PORT + number % _PORTS, node.job_id)


def follow(attempt: Attempt, rank: int, outcome: Path) -> str:
    """Takes part in the attempt as node ``rank`` until it ends, or the first node has written ``outcome``."""
    attempt = replace(attempt, tag=f"{attempt.tag}-node{rank}")
    attempt.place.mkdir(parents=True, exist_ok=True)
    log = attempt.place / f"output-node{rank}.log"
    before = causes.oom_kills()
    with log.open("ab") as output:
        child = subprocess.Popen(
            attempt.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(attempt),
            start_new_session=True,
            preexec_fn=processes.dies_with_parent(),
        )
    ended: float | None = None
    while child.poll() is None:
        if ended is None and outcome.exists():
            ended = time.monotonic()
        if ended is not None and time.monotonic() - ended > _AFTER_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
    over = child.poll()
    processes.end(attempt.tag, attempt.graces.term, attempt.graces.kill, child.poll)
    if over and not outcome.exists():
        reason = causes.of_death(over, causes.tail(log), attempt.folder, causes.oom_kills() - before)
        _note(attempt.place / f"node-{rank}.json", f"Node {rank}: {reason}")
        return CRASHED
    return "completed"


class Followers:
    """What the nodes after the first have left in the attempt's folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._looked = float("-inf")

    def lost(self) -> Asked | None:
        """A wish to end at once, when one of them has ended badly."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return None
        self._looked = now
        for path in sorted(self.place.glob("node-*.json")):
            return Asked(AT_ONCE, json.loads(path.read_text(encoding="utf-8"))["reason"], CRASHED)
        return None


def _note(path: Path, reason: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"reason": reason}) + "\n", encoding="utf-8")
    temporary.replace(path)
