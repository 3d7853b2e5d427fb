"""The app as a process of its own, as ``make run`` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "assets"


@contextmanager
def running_app(home: Path, assets: Path, log: Path) -> Iterator[str]:
    """Yields the address that the app prints; ends the process afterwards.

    Raises:
        RuntimeError: with the end of its log, when the app does not come up within five minutes.
    """
    environment = os.environ | {"WAVALIGN_HOME": str(home), "WAVALIGN_ASSETS": str(assets), "PYTHONUNBUFFERED": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if " is at http" in line:
                return line.rsplit(" ", 1)[1].rstrip("/")
        time.sleep(0.1)
    raise RuntimeError(f"The app did not come up:\n{log.read_text()[-3000:]}")


def shipped_assets() -> Path | None:
    """The repository's own checkpoints, once they are there."""
    return SHIPPED if (SHIPPED / "closedtalk-base" / "config.json").is_file() else None
