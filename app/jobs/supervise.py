"""Runs one attempt of a run to its end: starts the trainer, watches it, carries out a stop, says how it ended.

It knows the run's folder and nothing of a database, so that a runner here and a batch job elsewhere do the same. What
the trainer prints goes to a file: nobody has to read it for training to go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.jobs import causes, processes
from app.jobs.job import AT_ONCE, GENTLY
from wavalign.training.checkpoints import HALF_WRITTEN
from wavalign.training.journal import ATTEMPT_VARIABLE, CHECKPOINTS, CONTROL, EVENTS, HEARTBEAT, RESULT
from wavalign.training.run_lock import RunBusy, alone

OUTPUT = "output.log"
CRASHED = "crashed"
_WHY = {"asked to stop": "on request", "terminated": "somebody terminated it", "interrupted": "somebody interrupted it"}
"""The trainer's own reasons: it may hear a request before whoever supervises it."""


@dataclass(frozen=True)
class Graces:
    """Seconds that each stage of a stop may take: to save after being asked, after SIGTERM, after SIGKILL."""

    ask: float = 120.0
    term: float = 30.0
    kill: float = 10.0


@dataclass(frozen=True)
class Asked:
    """A wish to stop: GENTLY or AT_ONCE, why, and which state the job is in when it is carried out."""

    level: int
    reason: str
    state: Literal["stopped", "completed", "crashed"] = "stopped"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``step`` is the last one that is known of."""

    state: Literal["completed", "stopped", "failed", "crashed"]
    reason: str
    step: int
    left: tuple[int, ...] = ()
    """Processes of the job that could not be ended."""


@dataclass
class Attempt:
    """``command`` runs the trainer on ``folder``; ``tag`` marks its processes; ``minutes`` count once it has loaded."""

    folder: Path
    number: int
    tag: str
    command: list[str]
    minutes: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    graces: Graces = field(default_factory=Graces)

    @property
    def place(self) -> Path:
        return attempt_folder(self.folder, self.number)


def attempt_folder(folder: Path, number: int) -> Path:
    return folder / "attempts" / f"{number:03d}"


def supervise(
    attempt: Attempt,
    wanted: Callable[[], Asked | None] = lambda: None,
    beat: Callable[[bool], None] = lambda loaded: None,
    pause: float = 0.25,
) -> Outcome:
    """Runs the attempt; returns when every process of it is gone.

    ``wanted`` is asked again and again whether to stop, ``beat`` is told that all is well and whether the trainer has
    loaded. Neither may raise.
    """
    attempt.place.mkdir(parents=True, exist_ok=True)
    try:
        with alone(attempt.folder, attempt.graces.kill):  # what was killed a moment ago may not be gone yet
            pass
    except RunBusy as error:
        return Outcome("failed", str(error), last_step(attempt.folder))
    if asked_in_folder(attempt.folder, attempt.number) is None:
        (attempt.folder / CONTROL).unlink(missing_ok=True)  # of an earlier attempt
    (attempt.folder / RESULT).unlink(missing_ok=True)
    events = _Events(attempt.folder / EVENTS, attempt.number)
    killed_before = causes.oom_kills()
    with (attempt.place / OUTPUT).open("ab") as output:
        child = subprocess.Popen(
            attempt.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(attempt),
            start_new_session=True,
            preexec_fn=processes.dies_with_parent(),
        )
    stop = _Stop(attempt, child)
    loaded_at: float | None = None
    while child.poll() is None:
        if loaded_at is None and events.loaded():
            loaded_at = time.monotonic()
        beat(loaded_at is not None)
        asked = wanted() or asked_in_folder(attempt.folder)
        trained = 0.0 if loaded_at is None else time.monotonic() - loaded_at
        if asked is None and attempt.minutes is not None and trained >= 60 * attempt.minutes:
            asked = Asked(GENTLY, f"its budget of {attempt.minutes:g} minutes is used", "completed")
        if asked is not None:
            stop.pursue(asked)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(pause)
    # Workers can outlive the process that started them.
    left = processes.end(attempt.tag, attempt.graces.term if stop.asked is None else 1.0, attempt.graces.kill)
    return outcome(
        attempt.folder, attempt.number, stop.asked, child.returncode, causes.oom_kills() - killed_before, left
    )


def outcome(
    folder: Path, number: int, asked: Asked | None, code: int | None, oom_kills: int = 0, left: list[int] | None = None
) -> Outcome:
    """What an ended attempt amounts to; where the trainer could not write the result, it is written here."""
    pids = tuple(left or ())
    result = read_result(folder, number)
    if result is not None:
        _make_room(folder)
    step = int(result["step"]) if result else last_step(folder)
    if result is None:
        if asked is not None and asked.state == CRASHED:
            state, reason = CRASHED, asked.reason
        elif asked is not None:
            state, reason = "stopped", f"It did not save in time, and was ended: {asked.reason}."
        else:
            log = causes.tail(attempt_folder(folder, number) / OUTPUT)
            state, reason = CRASHED, causes.of_death(code, log, folder, oom_kills)
        _make_room(folder)
        _write_result(folder, {"status": state, "reason": reason, "step": step, "attempt": number})
    elif result["status"] == "failed":
        state, reason = "failed", causes.plainly(str(result["reason"]))
    elif result["status"] == "stopped":
        state = asked.state if asked else "stopped"
        why = asked.reason if asked else _WHY.get(str(result["reason"]), str(result["reason"]))
        reason = f"Stopped after step {step}: {why}."
    else:
        state, reason = str(result["status"]), ""
    if pids:
        reason += f" Process {', '.join(map(str, pids))} could not be ended and may still hold the device."
    return Outcome(state, reason.strip(), step, pids)


def _make_room(folder: Path) -> None:
    """Takes away a checkpoint that was not finished: it is of no use, and on a full disk it is what is in the way."""
    for path in (folder / CHECKPOINTS).glob(HALF_WRITTEN):
        shutil.rmtree(path, ignore_errors=True)


def ask_in_folder(folder: Path, level: int = GENTLY, number: int | None = None) -> None:
    """Leaves the request to stop where the trainer, and whoever supervises it, look.

    A request that names the attempt ``number`` holds also where that attempt has not begun yet.
    """
    path = folder / CONTROL
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    request = {"stop": True, "at_once": level == AT_ONCE, "attempt": number}
    temporary.write_text(json.dumps(request) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_result(folder: Path, number: int | None = None) -> dict[str, Any] | None:
    """result.json, where there is a whole one of this attempt (of any, for None)."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        whole = isinstance(result["status"], str) and isinstance(result["step"], int)
        return result if whole and (number is None or result["attempt"] == number) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def last_step(folder: Path) -> int:
    try:
        return int(json.loads((folder / HEARTBEAT).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


class _Stop:
    """Asks, waits, terminates, waits, kills by tag; never further back, and sooner when somebody insists."""

    def __init__(self, attempt: Attempt, child: subprocess.Popen) -> None:
        self.attempt, self.child = attempt, child
        self.asked: Asked | None = None
        self._since = 0.0
        self._stage = 0

    def pursue(self, asked: Asked) -> None:
        now = time.monotonic()
        if self.asked is None:
            self.asked, self._since = asked, now
            with contextlib.suppress(OSError):  # a full disk: the signal comes next
                ask_in_folder(self.attempt.folder, asked.level, self.attempt.number)
        graces, waited = self.attempt.graces, now - self._since
        hurry = asked.level >= AT_ONCE
        if self._stage == 0 and (hurry or waited > graces.ask):
            self._stage = 1
            for process in processes.tagged(self.attempt.tag):
                with contextlib.suppress(Exception):
                    process.terminate()
        if hurry or waited > graces.ask + graces.term:
            processes.end(self.attempt.tag, 2.0 if hurry else 0.0, self.attempt.graces.kill, self.child.poll)


class _Events:
    """Whether the trainer has said that it is ready, read as far as the file has grown."""

    def __init__(self, path: Path, attempt: int) -> None:
        self.path, self.attempt = path, attempt
        self._at = path.stat().st_size if path.is_file() else 0

    def loaded(self) -> bool:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._at)
                return any(b'"prepared"' in line for line in stream)
        except OSError:
            return False


def asked_in_folder(folder: Path, number: int | None = None) -> Asked | None:
    """The request in the folder; with ``number``, only one that names this attempt."""
    try:
        request = json.loads((folder / CONTROL).read_text(encoding="utf-8"))
        if request.get("stop") and (number is None or request.get("attempt") == number):
            return Asked(AT_ONCE if request.get("at_once") else GENTLY, "on request")
    except (OSError, ValueError, AttributeError):
        pass
    return None


def environment(attempt: Attempt) -> dict[str, str]:
    own = {processes.TAG: attempt.tag, ATTEMPT_VARIABLE: str(attempt.number), "PYTHONUNBUFFERED": "1"}
    return {**os.environ, **attempt.environment, **own}


def _write_result(folder: Path, result: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # a full or vanished disk: the row tells
        temporary = folder / f".{RESULT}.tmp"
        temporary.write_text(json.dumps({**result, "time": time.time()}, indent=1) + "\n", encoding="utf-8")
        temporary.replace(folder / RESULT)
