"""The command line that trains, on one process, on all GPUs of a machine, or on each of several machines.

The launchers run it, the documentation shows it, and ``python -m wavalign.launch`` prints it. Whether every process has
all weights or a share of them is the run's own choice (``parallel`` in its config).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


class LaunchError(ValueError):
    """Processes that cannot be shared out over machines; the message says what to do."""


@dataclass(frozen=True)
class Meeting:
    """Where the machines of one run find each other: torchrun's c10d rendezvous, held by the machine ``host``."""

    host: str
    port: int
    id: str

    @property
    def flags(self) -> list[str]:
        where = ["--rdzv-backend=c10d", f"--rdzv-endpoint={self.host}:{self.port}"]
        return [*where, f"--rdzv-id={self.id}"]


def train_command(
    run: Path | str,
    assets: Path | str | None = None,
    home: Path | str | None = None,
    processes: int = 1,
    nodes: int = 1,
    meeting: Meeting | None = None,
    python: str = sys.executable,
) -> list[str]:
    """Begins or goes on with the run in the folder ``run``. The same on each of ``nodes`` machines, which need a
    ``meeting``; ``processes`` are those of all machines together.

    Raises:
        LaunchError: when they cannot be shared out evenly, or cannot meet.
    """
    each = processes_on_each(processes, nodes)
    if nodes > 1 and meeting is None:
        raise LaunchError(f"{nodes} machines need a place to meet: the name of the first and a free port on it.")
    trainer = ["wavalign.train", str(run)]
    trainer += [] if assets is None else ["--assets", str(assets)]
    trainer += [] if home is None else ["--home", str(home)]
    if processes == 1:
        return [python, "-m", *trainer]
    where = ["--standalone"] if nodes == 1 else meeting.flags
    launch = ["torch.distributed.run", f"--nnodes={nodes}", f"--nproc-per-node={each}", *where, "-m"]
    return [python, "-m", *launch, *trainer]


def processes_on_each(processes: int, nodes: int) -> int:
    """Raises:
    LaunchError: when there would be none, or machines would have different numbers of processes.
    """
    if processes < 1:
        raise LaunchError(f"A run needs at least one process, got {processes}.")
    if nodes < 1 or processes % nodes:
        raise LaunchError(
            f"{processes} processes cannot be shared evenly by {nodes} machines; make processes a multiple of nodes."
        )
    return processes // nodes
