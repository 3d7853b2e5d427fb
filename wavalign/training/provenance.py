"""Where an adapter comes from, as it says of itself."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from wavalign.training.config import TrainConfig
from wavalign.training.trainee import Trainee

_REPOSITORY = Path(__file__).resolve().parents[2]


def provenance_of(config: TrainConfig, run: Path, step: int, trainee: Trainee) -> dict[str, Any]:
    """Run, step, base, data, recipe and code revision, as plain JSON."""
    return {
        "run": run.resolve().name,
        "name": config.name,
        "step": step,
        "base": trainee.base.name,
        "start": config.base,
        "method": config.method.model_dump(mode="json"),
        "rewards": config.rewards.weights,
        "data": config.data.model_dump(mode="json"),
        "tuning": config.tuning.model_dump(mode="json"),
        "seed": config.seed,
        "revision": code_revision(),
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def code_revision() -> str | None:
    """The commit of this code, with "+changes" where files differ from it; None outside a git checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}+changes" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
