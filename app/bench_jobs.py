"""Speed of watching jobs: what the page costs training, and what a refresh of it costs the server.

python -m app.bench_jobs refresh                 10 runs of 10,000 steps each, none and one of them growing
python -m app.bench_jobs overhead --turns 7      step time with the page open and closed, by turns (5 minutes)

``python -m evaluation.speed jobs`` runs both and holds them against their targets.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from app.jobs.job import AT_ONCE
from app.jobs.jobs import RUNS, Jobs
from app.jobs.queue import Queue
from app.pages.train_desk import TrainDesk
from app.services import Services
from app.settings import Settings
from app.store import open_store
from evaluation.intervals import bootstrap_ratio
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import load_config, recipes, save_config
from wavalign.training.journal import CONFIG, METRICS, read_metrics

_WARM = 4
"""Steps that are not counted: the first ones warm caches up."""
_STEP = (
    *(
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "rewards/rule/mean",
        "rewards/rule/std",
        "rewards/rule/failed_frac",
    ),
    *("rewards/delivery/mean", "rewards/delivery/std", "rewards/delivery/failed_frac", "mix/lambda", "mix/lambda_raw"),
    *("mix/reward_gate", "mix/info_gate", "loss", "loss/rl", "loss/sft_text", "loss/sft_speech", "kl", "kl/text"),
    *("kl/speech", "entropy", "entropy/text", "entropy/speech", "clip_ratio/region_mean", "completions/mean_length"),
    *("completions/min_length", "completions/max_length", "completions/clipped_ratio", "grad_norm", "learning_rate"),
    *("skipped_steps", "perf/sampling_s", "perf/decoding_s", "perf/rewards_s", "perf/forward_s", "perf/optimiser_s"),
    *("memory/rss_gb", "num_tokens", "epoch", "step_time"),
)
_EVALUATION = (
    *("eval/semantic/accuracy", "eval/semantic/score", "eval/acoustic/wer", "eval/acoustic/delivery"),
    *("eval/acoustic/f0_sd", "eval/acoustic/rate", "eval/acoustic/energy", "eval/acoustic/finished", "guard/wer"),
    *("guard/delivery", "guard/nll_speech", "eval/acoustic/nll_text", "eval/acoustic/nll_speech"),
)


def line(step: int, run: int) -> str:
    """A row of metrics as the trainer writes it, with as many of them."""
    names = _STEP + (_EVALUATION if step % 50 == 0 else ())
    values = {name: 1 + math.sin(step / 50 + place + run) for place, name in enumerate(names)}
    return json.dumps({"step": step, "attempt": 1, "time": 1.0 * step, **values})


def refresh(runs: int = 10, steps: int = 10_000, looks: int = 20) -> dict[str, float]:
    """Milliseconds of the server, and megabytes that it sends.

    ``first``: the first look at runs that were never read, ``caught_up``: all looks until everything is read;
    ``growing``: a look where one run has a new step, ``work``
    of it by the process's own clock, which other load does not move; ``quiet``: one at nothing new; ``redraw``: all
    curves of all runs again, as for a new visitor.
    """
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        store = open_store(home)
        queue = Queue(store)
        ids = []
        for number in range(runs):
            folder = home / RUNS / f"run-{number:03d}"
            folder.mkdir(parents=True)
            save_config(TrainConfig(steps=steps + looks + 1), folder / CONFIG)
            (folder / METRICS).write_text("\n".join(line(step, number) for step in range(1, steps + 1)) + "\n")
            ids.append(queue.add(folder.name, folder, state="completed").id)
        services = Services(Settings(home, Path("assets"), preload=False))
        services._jobs = Jobs(store, home, Path("assets"))
        desk = TrainDesk(services)
        seen: dict[str, int | None] = dict.fromkeys(ids)

        def look() -> tuple[float, float, int]:
            nonlocal behind
            shown = [{"id": id, "colour": "#14938a", "version": version} for id, version in seen.items()]
            began, worked = time.perf_counter(), time.process_time()
            answer = desk.answer({"do": "watch", "shown": shown, "memory": 0.0})
            size = len(json.dumps(answer))
            work, took = 1000 * (time.process_time() - worked), 1000 * (time.perf_counter() - began)
            behind = answer["behind"]
            seen.update({id: curves["version"] for id, curves in answer["curves"].items()})
            return took, work, size

        behind = False
        first, _, size = look()
        caught_up = [first]
        while behind:
            took, _, size = look()
            caught_up.append(took)
        quiet = [look()[0] for _ in range(looks)]
        redrawn = []
        for _ in range(3):
            seen = dict.fromkeys(ids)
            took, _, size = look()
            redrawn.append(took)
        growing, growing_work, grown_size = [], [], 0
        for step in range(steps + 1, steps + looks + 1):
            with (home / RUNS / "run-000" / METRICS).open("a") as stream:
                stream.write(line(step, 0) + "\n")
            took, work, grown_size = look()
            growing.append(took)
            growing_work.append(work)
        store.close()
    return {
        "runs": float(runs),
        "steps": float(steps),
        "first_ms": first,
        "caught_up_ms": sum(caught_up),
        "slowest_of_them_ms": max(caught_up),
        "redraw_ms": statistics.median(redrawn),
        "growing_ms": statistics.median(growing),
        "growing_work_ms": statistics.median(growing_work),
        "quiet_ms": statistics.median(quiet),
        "redraw_mb": size / 1e6,
        "growing_mb": grown_size / 1e6,
    }


def overhead(turns: int, home: Path, assets: Path, block: float = 20.0, every: float = 2.0) -> dict[str, float]:
    """A run's seconds a step while a page looks every ``every`` seconds, against those while none does.

    Stretches of ``block`` seconds take turns, so that whatever else the machine does falls on both alike; ``turns`` of
    each count. ``server_share`` is the time of a core that the looks take of this process, by its own clock.

    Raises:
        SystemExit: the run ended by itself.
    """
    store = open_store(home)
    services = Services(Settings(home, assets, preload=False))
    services._jobs = jobs = Jobs(store, home, assets)
    desk = TrainDesk(services)
    sizes = ["steps=1000000", "batch=4", "evaluation.every=0", "checkpoints.every=1000000"]
    job = jobs.start(load_config(recipes()["wavalign"], sizes))
    while not jobs.queue.get(job.id).is_final and len(read_metrics(job.folder)) < _WARM:
        time.sleep(every)
    version: Any = None
    work = [0.0, 0.0]
    stretches: list[tuple[bool, float, float]] = []
    for number in range(2 * turns):
        # Every other turn the watched stretch comes first, so that a drift of the machine's speed falls on both.
        watched = number % 4 in (1, 2)
        began, worked = time.time(), time.process_time()
        while time.time() - began < block:
            if watched:
                shown = [{"id": job.id, "colour": "#14938a", "version": version}]
                answer = desk.answer({"do": "watch", "shown": shown})
                version = answer["curves"].get(job.id, {}).get("version", version)
                json.dumps(answer)
            time.sleep(every)
        work[watched] += time.process_time() - worked
        stretches.append((watched, began, time.time()))
    ended = jobs.queue.get(job.id)
    if ended.is_final:
        raise SystemExit(f"The run ended by itself: {ended.reason}")
    jobs.stop(job.id, AT_ONCE)
    while not jobs.queue.get(job.id).is_final:
        jobs.look()
        time.sleep(0.5)
    rows = read_metrics(job.folder)[_WARM:]
    store.close()
    return _compared(rows, stretches) | {"server_share": (work[1] - work[0]) / (turns * block)}


def _compared(rows: list[dict[str, Any]], stretches: list[tuple[bool, float, float]]) -> dict[str, float]:
    """Watched against unwatched, by pairs of neighbouring stretches; only steps that lie within one stretch count."""
    means: list[float] = []
    steps = 0
    for _, began, end in stretches:
        own = [row["step_time"] for row in rows if began <= row["time"] - row["step_time"] and row["time"] <= end]
        means.append(statistics.median(own) if own else math.nan)
        steps += len(own)
    pairs = [
        (one, other) if watched else (other, one)
        for (watched, _, _), one, other in zip(stretches[::2], means[::2], means[1::2], strict=True)
        if not math.isnan(one + other)
    ]
    if not pairs:
        raise SystemExit("No stretch holds a whole step: this machine is too busy, or the stretches too short.")
    estimate = bootstrap_ratio([watched for watched, _ in pairs], [alone for _, alone in pairs])
    return {
        "overhead": estimate.value - 1,
        "low": estimate.low - 1,
        "high": estimate.high - 1,
        "closed_s": statistics.median(alone for _, alone in pairs),
        "open_s": statistics.median(watched for watched, _ in pairs),
        "turns": float(len(pairs)),
        "steps": float(steps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.bench_jobs", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("refresh", "overhead"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=7, help="stretches of each kind, for overhead")
    parser.add_argument("--assets", type=Path, default=Path(__file__).resolve().parents[1] / "assets")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if options.what == "refresh":
        found = refresh(options.runs, options.steps)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            found = overhead(options.turns, Path(scratch), options.assets)
    if options.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:16} {value:10.4f}")


if __name__ == "__main__":
    main()
