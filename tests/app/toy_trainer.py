"""A trainer that keeps the run folder's contract and imports no torch: python -m tests.app.toy_trainer FOLDER [...].

Its "weights" are a chain of hashes over the steps, so a run that was resumed wrongly ends with other ones.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

from wavalign.training import checkpoints
from wavalign.training.journal import CHECKPOINTS, Journal
from wavalign.training.stopping import StopRequest

GO_ON = "go-on"
"""A file in the run's folder: once it is there, nothing is held any more."""


def next_weights(weights: str, step: int) -> str:
    return hashlib.sha256(f"{weights}:{step}".encode()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--save-seconds", type=float, default=0.0, help="how long writing a checkpoint takes")
    parser.add_argument("--hold", type=int, help="after this step it waits for a request to stop, or for GO_ON")
    parser.add_argument("--hold-saving", type=int, help="in the middle of saving this step it waits for GO_ON alone")
    parser.add_argument("--print-megabytes", type=int, default=0)
    parser.add_argument("--deaf", action="store_true", help="no request to stop is heard")
    parser.add_argument("--worker", action="store_true", help="with a child in a session of its own, deaf as well")
    parser.add_argument("--raises", help="an exception's message at step 3")
    parser.add_argument("--exits", type=int, help="an exit code at step 3")
    options = parser.parse_args()
    if options.worker:
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        os.posix_spawn(sys.executable, [sys.executable, "-c", deaf], os.environ, setsid=True)
    journal, stop = Journal(options.folder), StopRequest()
    place = options.folder / CHECKPOINTS
    saved = checkpoints.latest(place)
    step, weights = (saved.step, saved.state["weights"]) if saved else (0, "")
    journal.event("resumed" if saved else "started", step=step)
    journal.event("prepared")

    def is_held(at: int | None) -> bool:
        return step == at and not (options.folder / GO_ON).exists()

    def save() -> None:
        def write(folder: Path) -> None:
            (folder / "weights").write_text(weights)
            time.sleep(options.save_seconds)
            while is_held(options.hold_saving):
                time.sleep(options.pause)

        checkpoints.save(place, step, {"weights": weights}, write)
        checkpoints.prune(place, 2)

    with stop.listening():
        while step < options.steps:
            if not options.deaf and (journal.asked_to_stop() or stop.reason):
                stop.ask("asked to stop")
                break
            if is_held(options.hold):
                time.sleep(options.pause)
                continue
            if step == 3 and options.raises:
                raise RuntimeError(options.raises)
            if step == 3 and options.exits is not None:
                os._exit(options.exits)
            time.sleep(options.pause)
            for _ in range(options.print_megabytes * 1024 // options.steps):
                print("x" * 1023)
            step += 1
            weights = next_weights(weights, step)
            journal.metrics(step, {"loss": int(weights[:8], 16) / 2**32, "reward": 1 + step / 10, "step_time": 0.02})
            journal.heartbeat(step)
            if step % options.every == 0:
                save()
    save()
    journal.answered_stop()
    (options.folder / "weights").write_text(weights)
    done = step >= options.steps
    journal.result("completed" if done else "stopped", "all steps are done" if done else stop.reason, step)
    return 0


if __name__ == "__main__":
    sys.exit(main())
