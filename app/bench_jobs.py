"""Speed of watching jobs: what the page costs training, and what a refresh of it costs the server.

python -m app.bench_jobs refresh                 10 runs of 10,000 steps each, none and one of them growing
python -m app.bench_jobs overhead --steps 40     step time with the page open and closed (trains twice, minutes)
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

from app.jobs.jobs import RUNS, Jobs
from app.jobs.queue import Queue
from app.pages.train_desk import TrainDesk
from app.services import Services
from app.settings import Settings
from app.store import open_store
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import load_config, recipes, save_config
from wavalign.training.journal import CONFIG, METRICS, read_metrics

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
    """Milliseconds of the server for: the first look at all runs, one at nothing new, one where one run has grown."""
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

        def look() -> tuple[float, int]:
            shown = [{"id": id, "colour": "#14938a", "version": version} for id, version in seen.items()]
            began = time.perf_counter()
            answer = desk.answer({"do": "watch", "shown": shown, "memory": 0.0})
            size = len(json.dumps(answer))
            took = 1000 * (time.perf_counter() - began)
            seen.update({id: curves["version"] for id, curves in answer["curves"].items()})
            return took, size

        first, size = look()
        quiet = [look()[0] for _ in range(looks)]
        redrawn = []
        for _ in range(3):
            seen = dict.fromkeys(ids)
            redrawn.append(look()[0])
        growing, grown_size = [], 0
        for step in range(steps + 1, steps + looks + 1):
            with (home / RUNS / "run-000" / METRICS).open("a") as stream:
                stream.write(line(step, 0) + "\n")
            took, grown_size = look()
            growing.append(took)
        store.close()
    return {
        "first look, everything read": first,
        "all curves of all runs drawn again": statistics.median(redrawn),
        "a refresh, one run has grown": statistics.median(growing),
        "a refresh, nothing new": statistics.median(quiet),
        "megabytes of the first answer": size / 1e6,
        "megabytes of a refresh": grown_size / 1e6,
    }


def overhead(steps: int, home: Path, assets: Path, every: float = 2.0, block: float = 20.0) -> dict[str, float]:
    """Median seconds of a step of one run while a page looks every ``every`` seconds, and while none does.

    Turns of ``block`` seconds, so that whatever else the machine does falls on both alike.
    """
    store = open_store(home)
    services = Services(Settings(home, assets, preload=False))
    services._jobs = jobs = Jobs(store, home, assets)
    desk = TrainDesk(services)
    config = load_config(recipes()["wavalign"], [f"steps={steps}", "evaluation.every=0", "checkpoints.every=1000"])
    job = jobs.start(config)
    version: Any = None
    began = time.time()
    while not jobs.queue.get(job.id).is_final:
        if int((time.time() - began) / block) % 2:
            answer = desk.answer({"do": "watch", "shown": [{"id": job.id, "colour": "#000", "version": version}]})
            version = answer["curves"].get(job.id, {}).get("version", version)
        time.sleep(every)
    ended = jobs.queue.get(job.id)
    store.close()
    if ended.state != "completed":
        raise SystemExit(f"The run did not complete: {ended.reason}")
    took: dict[bool, list[float]] = {True: [], False: []}
    for row in read_metrics(job.folder)[3:]:
        first, last = (int((row["time"] - back - began) / block) for back in (row["step_time"], 0.0))
        if first == last:  # not half of one and half of the other
            took[bool(last % 2)].append(row["step_time"])
    closed, opened = (statistics.median(took[watched]) for watched in (False, True))
    return {
        "closed, s a step": closed,
        "open, s a step": opened,
        "overhead, %": 100 * (opened / closed - 1),
        "steps compared": float(min(len(took[True]), len(took[False]))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.bench_jobs", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("refresh", "overhead"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--assets", type=Path, default=Path(__file__).resolve().parents[1] / "assets")
    options = parser.parse_args()
    if options.what == "refresh":
        found = refresh(options.runs, options.steps or 10_000)
        unit = "ms"
    else:
        with tempfile.TemporaryDirectory() as scratch:
            found = overhead(options.steps or 200, Path(scratch), options.assets)
        unit = ""
    for name, value in found.items():
        print(f"{name:40} {value:10.3f} {'' if 'megabytes' in name else unit}")


if __name__ == "__main__":
    main()
