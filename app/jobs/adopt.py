"""Runs that the store does not know: started from the command line, or whose database was lost. The folder is true."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from app.jobs.processes import is_alive
from app.jobs.queue import LOCAL, Queue
from app.jobs.supervise import last_step, read_result
from wavalign.training.config import ConfigError
from wavalign.training.config_files import load_config
from wavalign.training.journal import CONFIG, HEARTBEAT

_YOUNG_SECONDS = 60.0
_SILENT_SECONDS = 900.0


def adopt(queue: Queue, runs: Path) -> int:
    """Makes rows for runs that are over and have none; returns how many. What still runs is left to its owner."""
    if not runs.is_dir():
        return 0
    known = {job.folder for job in queue.jobs()}
    adopted = 0
    for folder in sorted(runs.iterdir()):
        config = folder / CONFIG
        if folder in known or folder.name.startswith(".") or not config.is_file():
            continue
        if time.time() - config.stat().st_mtime < _YOUNG_SECONDS and read_result(folder) is None:
            continue  # somebody is just starting it
        if _under_way(folder):
            continue
        try:
            load_config(config)
        except ConfigError:
            continue
        queue.add(folder.name, folder, **_specification(folder), **_end(folder), started=config.stat().st_mtime)
        adopted += 1
    return adopted


def _under_way(folder: Path) -> bool:
    if read_result(folder) is not None:
        return False
    try:
        beat = json.loads((folder / HEARTBEAT).read_text(encoding="utf-8"))
        return time.time() - beat["time"] < _SILENT_SECONDS and is_alive(beat["pid"], _born(beat["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _born(pid: int) -> float | None:
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def _specification(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return {name: about[name] for name in ("launcher", "processes", "priority", "settings")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"launcher": LOCAL, "processes": 1, "priority": 0, "settings": {}}


def _end(folder: Path) -> dict[str, Any]:
    result = read_result(folder)
    if result is None:
        step = last_step(folder)
        return {"state": "crashed", "reason": f"Its end was not seen; the last step known is {step}.", "attempt": 1}
    return {
        "state": result["status"],
        "reason": result.get("reason"),
        "attempt": int(result.get("attempt", 1)),
        "ended": result.get("time"),
    }
