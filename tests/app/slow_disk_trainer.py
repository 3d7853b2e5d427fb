"""The real trainer on a disk that takes its time: python -m tests.app.slow_disk_trainer SECONDS RUN [...].

Every file of a checkpoint takes SECONDS to reach the disk, so that there is a middle of a save to be killed in.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import tests.training.letters  # noqa: F401  (makes the reward known)
from wavalign import train
from wavalign.training import checkpoints

if __name__ == "__main__":
    seconds, to_disk = float(sys.argv[1]), checkpoints._to_disk

    def slowly(path: Path) -> None:
        time.sleep(seconds)
        to_disk(path)

    checkpoints._to_disk = slowly
    sys.exit(train.main(sys.argv[2:]))
