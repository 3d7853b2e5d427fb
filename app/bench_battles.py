"""What a battle costs this machine: ``python -m app.bench_battles [--battles 12] [--json]``.

Battles as the arena stages them: a pair of this home's checkpoints that can meet, both replies in one batch, made
alike, measured, stored and released; one after another, typed questions of the closed world. Rows and recordings go to
a folder of their own, which is deleted afterwards. A battle before the first loads what is needed and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.battles import BattleError
from app.conversation import Asked
from app.rates import Rates
from app.simulate_votes import question
from app.speakers import LoadedSpeakers
from app.staging import Staging
from app.store import StoreError
from app.voting import Voting
from wavalign.arguments import whole
from wavalign.dialogue import Turn


def run(voting: Voting, battles: int, seed: int = 0) -> dict[str, float | int]:
    """Seconds from the question to the release, seconds of processor time a battle, battles a minute.

    Raises:
        BattleError: no two checkpoints can meet, or a side failed twice.
    """
    dice, took, cpu = random.Random(seed), [], []
    for number in range(battles + 1):
        rater = f"bench-{number}"
        voting.consent(rater, "research", source="simulated")
        words = question(dice)
        began, busy = time.perf_counter(), time.process_time()
        voting.open(rater, Asked(Turn("user", text=words), typed=words))
        took.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
    counted = np.array(took[1:])
    return {
        "battles": battles,
        "p50_s": round(float(np.percentile(counted, 50)), 2),
        "max_s": round(float(counted.max()), 2),
        "cpu_s": round(float(np.mean(cpu[1:])), 2),
        "battles_per_minute": round(60 * battles / float(counted.sum()), 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    from app.services import Services
    from app.settings import Settings, SettingsError
    from wavalign.models.registry import Registry

    parser = argparse.ArgumentParser(prog="python -m app.bench_battles", description=__doc__.splitlines()[0])
    parser.add_argument("--battles", type=whole(1), default=12)
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--folder", type=Path, help="where the folder is made (default: beside other temporary files)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wavalign-bench-", dir=options.folder) as home:
        try:
            given = Settings.from_environment()
            registry = Registry(given.assets, given.home)
            services = Services(replace(given, home=Path(home), database=None), registry)
            staging = Staging(services.voting.store, LoadedSpeakers(services), rates=Rates(10**9, 10**9, 10**9))
            result = run(Voting(staging), options.battles, options.seed)
            services.voting.store.close()
        except (SettingsError, StoreError, BattleError) as error:
            print(f"Cannot stage battles: {error}", file=sys.stderr)
            return 1
    result |= {"cores": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 1)}
    if options.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['battles']} battles: p50 {result['p50_s']} s, slowest {result['max_s']} s, "
            f"{result['cpu_s']} s of processor time each, {result['battles_per_minute']} a minute "
            f"({result['cores']} cores, load {result['load']})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
