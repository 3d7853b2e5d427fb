"""Runs a suite of benchmarks on one checkpoint and prints every figure with its interval and target.

    python -m evaluation.run closedtalk --checkpoint closedtalk-base
    python -m evaluation.run closedtalk --checkpoint closedtalk-base --probes --json figures.json
    python -m evaluation.run closedtalk --only codec recogniser --limit 20
    python -m evaluation.run compare --checkpoints closedtalk-base closedtalk-wavalign --out FOLDER

``compare`` is explained by ``evaluation.compare_command``: several checkpoints on any task, with paired intervals.

A missed target does not fail the command: it is printed. What cannot be run (missing data) does, with one sentence.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from evaluation.benchmarks import BENCHMARKS, of_suite, suites
from evaluation.closedtalk_bench import Bench
from evaluation.figures import Section, table, verdict
from wavalign.closedtalk.dataset import DataError
from wavalign.closedtalk.delivery import DeliveryError
from wavalign.codecs.loading import CodecError
from wavalign.models.protocol import CheckpointError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
HOME = Path(os.environ.get("WAVALIGN_HOME") or Path.home() / ".cache" / "wavalign-workbench")


def run(suite: str, bench: Bench, probes: bool = False, only: Sequence[str] = ()) -> list[Section]:
    """The sections of a suite's benchmarks, in the registry's order; ``only`` names the ones to run."""
    chosen = {name: BENCHMARKS[name] for name in only} if only else of_suite(suite, probes)
    return [section for benchmark in chosen.values() for section in benchmark.run(bench)]


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["compare"]:
        from evaluation.compare_command import main as compare

        return compare(arguments[1:], ASSETS, HOME)
    parser = argparse.ArgumentParser(prog="python -m evaluation.run", description=__doc__.split("\n")[0])
    parser.add_argument("suite", choices=suites())
    parser.add_argument("--checkpoint", default="closedtalk-base", help="a name from the registry")
    parser.add_argument("--limit", type=int, help="prompts or recordings a benchmark (default: each one's own)")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling and of the bootstrap")
    parser.add_argument("--probes", action="store_true", help="also run what has no target: unseen speakers and sums")
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), default=(), help="run these benchmarks only")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="the folder of the embedded checkpoints and data")
    parser.add_argument("--home", type=Path, default=HOME, help="the folder whose checkpoints/ holds adapters")
    parser.add_argument("--threads", type=int, default=1, help="of torch; small models are fastest with one")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error(f"--limit must be at least 1, got {options.limit}.")
    torch.set_num_threads(options.threads)
    quiet = not sys.stderr.isatty()
    bench = Bench(options.assets, options.checkpoint, options.limit, options.seed, quiet, options.home)
    started = time.perf_counter()
    try:
        sections = run(options.suite, bench, options.probes, options.only)
    except (DataError, CheckpointError, CodecError, DeliveryError) as error:
        print(error, file=sys.stderr)
        return 1
    print(table(sections))
    print(f"\n{verdict(sections)} {time.perf_counter() - started:.0f} s.")
    if options.json:
        write_json(options.json, options.checkpoint, options.seed, sections)
    return 0


def write_json(path: Path, checkpoint: str, seed: int, sections: Sequence[Section]) -> None:
    """The figures of all sections, for programs."""
    figures = [f.as_dict() | {"section": section.title} for section in sections for f in section.figures]
    path.write_text(json.dumps({"checkpoint": checkpoint, "seed": seed, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
