"""One attempt under supervision: output that nobody reads, stops that are not heard, and why it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from app.jobs import causes, processes
from app.jobs.job import AT_ONCE, GENTLY
from app.jobs.supervise import Asked, Attempt, Graces, Outcome, ask_in_folder, supervise
from tests.app.jobs_bench import straight
from wavalign.training.journal import read_lines
from wavalign.training.run_lock import alone

QUICK = Graces(ask=0.3, term=0.3, kill=5.0)
"""For trainers that are deaf; one that listens may take long to answer on a busy machine."""
PATIENT = Graces(ask=120.0, term=120.0, kill=10.0)


def attempt(folder: Path, *arguments: str, number: int = 1, **how: object) -> Attempt:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.app.toy_trainer", str(folder), *arguments]
    return Attempt(folder, number, f"test-{os.getpid()}-{folder.name}", command, **{"graces": PATIENT, **how})


def steps_of(folder: Path) -> list[int]:
    return [line["step"] for line in read_lines(folder / "metrics.jsonl")]


def asking_at(folder: Path, step: int, asked: Asked):
    """A wish that comes up once the run has taken ``step``."""
    return lambda: asked if len(steps_of(folder)) >= step else None


def test_ten_megabytes_of_output_are_written_with_nobody_reading(tmp_path: Path) -> None:
    ended = supervise(attempt(tmp_path, "--steps", "10", "--print-megabytes", "10"))
    assert ended == Outcome("completed", "", 10)
    assert (tmp_path / "attempts" / "001" / "output.log").stat().st_size >= 10 * 2**20


def test_a_stop_saves_and_the_next_attempt_goes_on_exactly(tmp_path: Path) -> None:
    first = attempt(tmp_path, "--steps", "30", "--hold", "20")
    ended = supervise(first, asking_at(tmp_path, 7, Asked(GENTLY, "on request")))
    assert ended.state == "stopped"
    assert ended.reason == f"Stopped after step {ended.step}: on request."
    assert supervise(attempt(tmp_path, "--steps", "30", number=2)).state == "completed"
    assert steps_of(tmp_path) == list(range(1, 31))
    assert (tmp_path / "weights").read_text() == straight(30)


def test_a_request_in_the_folder_is_as_good(tmp_path: Path) -> None:
    asked = threading.Thread(target=lambda: (_until(lambda: len(steps_of(tmp_path)) > 3), ask_in_folder(tmp_path)))
    asked.start()
    ended = supervise(attempt(tmp_path, "--steps", "5000"))
    asked.join()
    assert ended.state == "stopped"
    assert not (tmp_path / "control.json").exists()


def test_a_request_of_before_the_start_holds_for_its_attempt_and_no_other(tmp_path: Path) -> None:
    ask_in_folder(tmp_path, GENTLY, number=1)
    assert supervise(attempt(tmp_path, "--steps", "5000")).state == "stopped"
    ask_in_folder(tmp_path, GENTLY, number=1)
    assert supervise(attempt(tmp_path, "--steps", "8", number=2)).state == "completed"


def test_a_run_that_another_process_trains_is_left_as_it_is(tmp_path: Path) -> None:
    """Somebody goes on with it in a shell: its request to stop, its result and its unfinished checkpoint stay."""
    half = tmp_path / "checkpoints" / ".tmp-step-5"
    half.mkdir(parents=True)
    for name in ("control.json", "result.json"):
        (tmp_path / name).write_text('{"stop": true}')
    with alone(tmp_path, 0.0):
        ended = supervise(attempt(tmp_path, "--steps", "5", graces=Graces(0.1, 0.1, 0.1)))
    assert (ended.state, ended.step) == ("failed", 0)
    assert ended.reason == (
        f"{tmp_path.name} is still being trained by another process. Stop that one first, or wait for its end."
    )
    assert half.is_dir()
    assert (tmp_path / "control.json").read_text() == (tmp_path / "result.json").read_text() == '{"stop": true}'


def test_a_checkpoint_that_was_not_finished_does_not_stay_in_the_way(tmp_path: Path) -> None:
    started = attempt(tmp_path, "--steps", "40", "--save-seconds", "60")
    half = tmp_path / "checkpoints" / ".tmp-step-5"
    ended = supervise(started, lambda: Asked(AT_ONCE, "on request") if half.is_dir() else None)
    assert ended.state == "stopped"
    assert not half.exists()


def test_one_that_does_not_listen_is_killed_with_workers_in_other_sessions(tmp_path: Path) -> None:
    started = attempt(tmp_path, "--steps", "5000", "--deaf", "--worker", graces=QUICK)
    seen: list[int] = []

    def wanted() -> Asked | None:
        seen.append(len(processes.tagged(started.tag)))
        return Asked(GENTLY, "on request") if len(steps_of(tmp_path)) > 6 else None

    ended = supervise(started, wanted)
    assert max(seen) == 2
    assert ended.state == "stopped"
    assert "did not save in time" in ended.reason
    assert processes.tagged(started.tag) == []


def test_at_once_does_not_wait_for_the_graces(tmp_path: Path) -> None:
    patient = attempt(tmp_path, "--steps", "5000", "--deaf", graces=Graces(600, 600, 5))
    assert supervise(patient, asking_at(tmp_path, 2, Asked(AT_ONCE, "on request"))).state == "stopped"


def test_what_a_finished_trainer_leaves_behind_is_ended(tmp_path: Path) -> None:
    started = attempt(tmp_path, "--steps", "3", "--worker", graces=QUICK)
    assert supervise(started).state == "completed"
    assert processes.tagged(started.tag) == []


def test_a_budget_of_minutes_ends_as_completed(tmp_path: Path) -> None:
    ended = supervise(attempt(tmp_path, "--steps", "100000", minutes=0.005))
    assert ended.state == "completed"
    assert ended.reason.endswith("its budget of 0.005 minutes is used.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--raises", "CUDA out of memory. Tried to allocate 2 GiB"), "The GPU ran out of memory. Lower micro_batch"),
        (("--raises", "the moon is in the way"), "RuntimeError: the moon is in the way"),
        (("--exits", "3"), "It ended with code 3 and without a result."),
    ],
    ids=["gpu memory", "another exception", "an exit"],
)
def test_a_crash_has_its_likely_reason(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    ended = supervise(attempt(tmp_path, *arguments))
    assert ended.state == "crashed"
    assert ended.reason.startswith(says)
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "crashed"


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    os.symlink("/dev/full", tmp_path / "metrics.jsonl")  # every write to it finds no space
    ended = supervise(attempt(tmp_path))
    assert ended.state == "crashed"
    assert ended.reason.startswith("The disk is full. Free some space")


def test_killed_by_the_system_for_memory_or_by_somebody(tmp_path: Path) -> None:
    killed = -signal.SIGKILL
    assert "memory ran out" in causes.of_death(killed, "", tmp_path, oom_kills=1)
    assert "nothing says that memory ran out" in causes.of_death(killed, "", tmp_path, oom_kills=0)
    assert "nobody saw" in causes.of_death(None, "", tmp_path, 0)
    assert "SIGSEGV" in causes.of_death(-signal.SIGSEGV, "", tmp_path, 0)
    assert causes.oom_kills() >= 0


def test_what_a_worker_said_counts_and_not_what_torchrun_says_about_it() -> None:
    agent = "W1122 20:14 1 .venv/lib/torch/distributed/elastic/multiprocessing/api.py:1028] Sending SIGTERM\n"
    about = "Traceback (most recent call last):\n  x\ntorch.distributed.elastic.ChildFailedError:\n"
    raised = "Traceback (most recent call last):\n  File y\nKeyError: 'mine'\n"
    assert causes.last_exception(raised + agent + about) == "KeyError: 'mine'"
    assert causes.last_exception("There is no such field.\n" + agent + about) == "There is no such field."


def test_a_progress_bar_is_read_as_it_was_last(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"started\n 1%\r 2%\r 3%\nKeyError: 1\n")
    assert causes.tail(tmp_path / "log") == "started\n 3%\nKeyError: 1\n"
    assert causes.tail(tmp_path / "absent") == ""


def _until(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
