"""What runs on a rented machine: supervises the trainer, and sends the run's folder back as it grows.

python -m app.jobs.launchers.hf_worker REPO RUN ATTEMPT TAG --minutes 30
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from app.jobs.early_stopping import watchful
from app.jobs.job import GENTLY
from app.jobs.launchers.hf_jobs import OUTCOME, WORK
from app.jobs.supervise import Asked, Attempt, supervise
from wavalign.launch.commands import train_command

SEND_SECONDS, ASK_SECONDS = 180.0, 30.0
_UNREACHABLE = HfHubHTTPError.__bases__


class Courier:
    """Sends the folder and looks for a request to stop, each now and then; what fails is tried again next time."""

    def __init__(self, api: HfApi, repo: str, folder: Path, attempt: int) -> None:
        self.api, self.repo, self.folder, self.attempt = api, repo, folder, attempt
        self._sent = self._looked = time.monotonic()
        self._asked: Asked | None = None

    def send(self) -> None:
        self.api.upload_folder(
            repo_id=self.repo,
            repo_type="dataset",
            folder_path=self.folder,
            path_in_repo=f"runs/{self.folder.name}",
            ignore_patterns=["**/.tmp-*/**", "**/*.tmp"],
            commit_message=f"{self.folder.name}, attempt {self.attempt}",
        )

    def beat(self, loaded: bool) -> None:
        if time.monotonic() - self._sent >= SEND_SECONDS:
            self._sent = time.monotonic()
            self._trying(self.send)

    def wanted(self) -> Asked | None:
        if self._asked is None and time.monotonic() - self._looked >= ASK_SECONDS:
            self._looked = time.monotonic()
            self._trying(self._look)
        return self._asked

    def _look(self) -> None:
        name = f"asked/{self.folder.name}-{self.attempt}.json"
        if self.api.file_exists(self.repo, name, repo_type="dataset"):
            self._asked = Asked(GENTLY, "on request")

    def _trying(self, act: Callable[[], None]) -> None:
        try:
            act()
        except _UNREACHABLE as error:
            print(f"The Hub was not reached, and will be tried again: {error}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.jobs.launchers.hf_worker", description=__doc__.split("\n")[0])
    parser.add_argument("repo")
    parser.add_argument("run")
    parser.add_argument("attempt", type=int)
    parser.add_argument("tag")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--stop-on-alarm", action="store_true")
    parser.add_argument("--patience", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(WORK))
    options = parser.parse_args(arguments)
    folder = options.work / "runs" / options.run
    command = train_command(folder, options.work / "code" / "assets", options.work / "home", options.processes)
    attempt = Attempt(folder, options.attempt, options.tag, command, options.minutes)
    courier = Courier(HfApi(), options.repo, folder, options.attempt)
    watched = watchful(folder, {"stop_on_alarm": options.stop_on_alarm, "patience": options.patience})
    ended = supervise(attempt, lambda: courier.wanted() or watched(), courier.beat)
    (attempt.place / OUTCOME).write_text(json.dumps(asdict(ended)) + "\n", encoding="utf-8")
    courier.send()
    print(f"{ended.state}: {ended.reason}", flush=True)
    return 0 if ended.state in ("completed", "stopped") else 1


if __name__ == "__main__":
    raise SystemExit(main())
