"""Speed as ratios, each measured side by side in one run.

    python -m evaluation.speed sampler       tokens a second against transformers' generate
    python -m evaluation.speed sidebyside    two checkpoints together against one
    python -m evaluation.speed talk          first audio, real-time factor, cold start of the app
    python -m evaluation.speed training      a training step against TRL's GRPOTrainer
    python -m evaluation.speed ratings       a million votes, against evalica
    python -m evaluation.speed jobs          what watching costs a training job, and the server
    python -m evaluation.speed gpu           real sizes on a GPU, against generate and TRL
    python -m evaluation.speed sampler --json

The machine's speed cancels out of the ratios; other work on it does not cancel fully, so the sides take turns and the
median over the turns is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from evaluation.figures import Section, table
from evaluation.speed_gpu import gpu
from evaluation.speed_gpu_models import SHAPES
from evaluation.speed_jobs import jobs
from evaluation.speed_ratings import ratings
from evaluation.speed_sampler import sampler
from evaluation.speed_sidebyside import sidebyside
from evaluation.speed_talk import talk
from evaluation.speed_timing import SpeedOptions
from evaluation.speed_training import training
from wavalign.models.protocol import CheckpointError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
HOME = Path(os.environ.get("WAVALIGN_HOME") or Path.home() / ".cache" / "wavalign-workbench")
BENCHMARKS: dict[str, Callable[[SpeedOptions], Section]] = {
    "sampler": sampler,
    "sidebyside": sidebyside,
    "talk": talk,
    "training": training,
    "ratings": ratings,
    "jobs": jobs,
    "gpu": gpu,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.speed", description=__doc__.split("\n")[0])
    parser.add_argument("benchmark", choices=list(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--checkpoint", default="closedtalk-base", help="a base, by its name in the registry")
    parser.add_argument("--adapter", help="for sidebyside (default: the first of that base, else a random one)")
    parser.add_argument("--turns", type=int, default=7, help="how often each side is timed")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="the folder of the embedded checkpoints and data")
    parser.add_argument("--home", type=Path, default=HOME, help="the folder whose checkpoints/ holds adapters")
    parser.add_argument("--threads", type=int, default=1, help="of torch; small models are fastest with one")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="of gpu")
    parser.add_argument("--size", default="small", choices=list(SHAPES), help="of gpu's random-weight checkpoints")
    options = parser.parse_args(arguments)
    if options.turns < 1:
        parser.error(f"--turns must be at least 1, got {options.turns}.")
    torch.set_num_threads(options.threads)
    told = (options.assets, options.home, options.checkpoint, options.adapter, options.turns)
    asked = SpeedOptions(*told, device=options.device, size=options.size)
    try:
        section = BENCHMARKS[options.benchmark](asked)
    except (CheckpointError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({figure.id: figure.value for figure in section.figures}, indent=2))
    else:
        print(table([section]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
