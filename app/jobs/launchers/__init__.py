"""The launchers there are, by name. A new one is one file and one line here."""

from __future__ import annotations

import importlib

from app.jobs.job import JobError
from app.jobs.launchers.protocol import Launcher, Polled

__all__ = ["LAUNCHERS", "ZERO_GPU", "Launcher", "Polled", "launcher"]

ZERO_GPU = "zerogpu"
LAUNCHERS: dict[str, str] = {
    "local": "app.jobs.launchers.local:Local",
    "slurm": "app.jobs.launchers.slurm:Slurm",
    ZERO_GPU: "app.jobs.launchers.zero_gpu:ZeroGpu",
    "hf-jobs": "app.jobs.launchers.hf_jobs:HfJobs",
}
"""Name -> "module:class"; imported when it is asked for, so that what it needs may be absent."""


def launcher(name: str) -> Launcher:
    """Raises:
    JobError: when there is none of this name, or what it needs is not installed.
    """
    if name not in LAUNCHERS:
        raise JobError(f'There is no launcher "{name}"; the launchers are: {", ".join(LAUNCHERS)}.')
    module, _, attribute = LAUNCHERS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()
