"""What cells of a comparison need at test size: changes of every recipe, and assets whose base is soon done talking."""

from __future__ import annotations

import json
from pathlib import Path

from tests.training.tiny_run import make_assets

TINY = ["batch=2", "micro_batch=1", "precision=float32", "rewards.weights={letters: 1.0}", "rollouts.group_size=3"]
TINY += ["rollouts.max_tokens=40", "rollouts.max_seconds=2", "tuning.kind=lora", "tuning.rank=4"]


def make_brief_assets(folder: Path) -> Path:
    """The base's own replies, which every cell is measured by, are short."""
    make_assets(folder)
    path = folder / "tiny-base" / "interleaved.json"
    description = json.loads(path.read_text())
    description["sampling"] |= {"max_tokens": 40, "max_seconds": 1.2}
    path.write_text(json.dumps(description))
    return folder
