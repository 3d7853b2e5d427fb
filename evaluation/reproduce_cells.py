"""One cell of the comparison: one variant trained with one seed, then measured; kept on disk, so never done twice.

<work>/base.json                     the untrained base: its hash and its measures
<work>/replies/                      the untrained base's replies and rewards, which runs of DPO share
<work>/cells/<variant>/seed-N/run/   the training run's own folder, from which it goes on after an interruption
<work>/cells/<variant>/seed-N/measured.json
<work>/cells/<variant>/seed-N/data.json      what the prompts were, where they are not the shipped ones
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.reproduce_measure import Sizes, measured
from evaluation.reproduce_variants import ReproduceError, Variant
from wavalign.models.interleaved import InterleavedModel
from wavalign.models.memory import give_back
from wavalign.models.registry import HOME_FOLDER, Registry
from wavalign.rewards.registry import REFERENCES_FILE
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import load_config, recipes, save_config
from wavalign.training.journal import ADAPTER, CONFIG, RESULT, read_metrics
from wavalign.training.run_lock import alone

MEASURED, BASE_FILE, CLOCK, DATA, REPLIES = "measured.json", "base.json", "clock.json", "data.json", "replies"


@dataclass(frozen=True)
class Setting:
    """What all cells share. ``overrides`` are ``field=value`` for every recipe, ``tuned`` those of one recipe and its
    variants; a variant's own come last. ``untimed`` are variants that trained on a machine of another speed, or
    beside other programs: seconds of theirs are not compared."""

    work: Path
    assets: Path
    base: str = "closedtalk-base"
    steps: int = 200
    overrides: tuple[str, ...] = ()
    tuned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    untimed: tuple[str, ...] = ()
    pool: Path | None = None
    curve: int = 100
    sizes: Sizes = field(default_factory=Sizes)
    quiet: bool = True


@dataclass(frozen=True)
class Cell:
    """``folder`` is made when the cell is begun."""

    variant: Variant
    seed: int
    setting: Setting

    @property
    def folder(self) -> Path:
        return self.setting.work / "cells" / self.variant.slug / f"seed-{self.seed}"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def name(self) -> str:
        return f"{self.variant.name}, seed {self.seed}"

    @property
    def trained(self) -> bool:
        return (read_json(self.run / RESULT) or {}).get("status") == "completed"

    @property
    def has_weights(self) -> bool:
        """Whether what was trained can be loaded: a folder laid from its record says what came out, no more."""
        return self.trained and any((self.run / ADAPTER).glob("*.safetensors"))

    @property
    def measures(self) -> dict[str, Any] | None:
        """What was measured with the setting's sizes; None when nothing was yet."""
        found = read_json(self.folder / MEASURED)
        return found if found and found["sizes"] == asdict(self.setting.sizes) else None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The run's metrics, a line a step."""
        return read_metrics(self.run)

    @property
    def mean_lambda(self) -> float | None:
        """The words' over all steps of the run; None before it is trained, or where nothing is mixed."""
        return self.mean("mix/lambda")

    def mean(self, metric: str) -> float | None:
        """Over all steps of the run; None before it is trained, or where no step has the metric."""
        if not self.trained:
            return None
        values = [line[metric] for line in self.metrics if metric in line]
        return float(np.mean(values)) if values else None

    def config(self, mean_lambda: float | None = None) -> TrainConfig:
        """What the cell trains: its recipe, the setting's overrides, the variant's own, and the seed of both the
        training and the order of prompts, so that all recipes see the same prompts in the same order.

        Raises:
            ConfigError: when an override does not fit.
        """
        setting = self.setting
        shared = [f"base={setting.base}", f"steps={setting.steps}", f"evaluation.every={setting.curve}"]
        shared += ["evaluation.prompts=48", "evaluation.samples=4", "evaluation.spoken=16", "evaluation.kept=0"]
        shared += ["checkpoints.every=50", "checkpoints.keep=1"]
        shared += [f"data.pool={json.dumps(str(setting.pool))}"] if setting.pool else []
        tuned = setting.tuned.get(self.variant.recipe, ())
        own = self.variant.resolved(mean_lambda)
        last = [f"name={self.variant.slug}", f"seed={self.seed}", f"data.seed={self.seed}"]
        return load_config(recipes()[self.variant.recipe], [*shared, *setting.overrides, *tuned, *own, *last])


def order(variants: Sequence[Variant], seeds: Sequence[int], setting: Setting) -> list[Cell]:
    """Every variant with the first seed, then with the next: a table is useful long before the end."""
    return [Cell(variant, seed, setting) for seed in seeds for variant in variants]


def train(cell: Cell, mean_lambda: float | None, deadline: float | None) -> str:
    """Trains a cell, or goes on with it; returns "completed" or "stopped" (Ctrl-C, or ``deadline`` by
    ``time.monotonic``). A finished one whose weights are gone is trained from its beginning.

    Raises:
        ReproduceError: when the folder holds a run with other settings.
        RunBusy: when another process trains it.
        ConfigError, DataError, CheckpointError, RewardError, TrainingError: when it cannot be trained.
    """
    from wavalign.training.loop import Trainer

    refuse_other_settings(cell, mean_lambda)
    if cell.trained and not cell.has_weights:
        shutil.rmtree(cell.folder)
    config = cell.config(mean_lambda)
    if not (cell.run / CONFIG).is_file():
        cell.run.mkdir(parents=True, exist_ok=True)
        write_json(cell.folder / DATA, {"sha256": data_hash(config.data.path)})
        save_config(config, cell.run / CONFIG)
    replies = cell.setting.work / REPLIES
    with alone(cell.run, 0.0):
        trainer = Trainer(config, cell.run, cell.setting.assets, quiet=cell.setting.quiet, replies=replies)
        wall, processed = time.perf_counter(), time.process_time()
        with trainer.stop.listening(), _until(deadline, trainer.stop):
            status = trainer.run()
        _count(cell, time.process_time() - processed, time.perf_counter() - wall)
    del trainer
    give_back()
    return status


def load_trained(cell: Cell) -> tuple[InterleavedModel, str]:
    """The cell's checkpoint and its name in the model.

    Raises:
        CheckpointError: when the run left none that can be used.
    """
    with tempfile.TemporaryDirectory() as home:
        checkpoints = Path(home) / HOME_FOLDER
        checkpoints.mkdir()
        name = f"{cell.variant.slug}-seed-{cell.seed}"
        (checkpoints / name).symlink_to((cell.run / ADAPTER).resolve(), target_is_directory=True)
        return Registry(cell.setting.assets, home).load([name]), name


def measure_cell(cell: Cell) -> dict[str, Any]:
    """Measures the trained checkpoint and keeps the result."""
    found = measured(*load_trained(cell), cell.setting.assets, cell.setting.sizes)
    write_json(cell.folder / MEASURED, found)
    give_back()
    return found


def base_measures(setting: Setting, only_read: bool = False) -> dict[str, Any] | None:
    """The untrained base's measures: read, or taken now.

    Raises:
        ReproduceError: when the cells in the work folder were trained from other weights.
    """
    path = setting.work / BASE_FILE
    known = read_json(path) or {}
    hashed = base_hash(setting)
    if known and known["sha256"] != hashed:
        raise ReproduceError(
            f"{setting.work} holds a comparison from other weights or data of {setting.base}; name another --work, "
            "or delete it."
        )
    if known.get("sizes") == asdict(setting.sizes):
        return known
    if only_read:
        return None
    model = Registry(setting.assets).load([setting.base])
    found = {"sha256": hashed, "base": setting.base, **measured(model, setting.base, setting.assets, setting.sizes)}
    write_json(path, found)
    return found


def base_hash(setting: Setting) -> str:
    """Of all that a cell depends on beside its config: the base's weights, the data, the codec and what measures."""
    origin = Registry(setting.assets).checkpoint(setting.base)
    folders = [Path(origin.base), *([origin.adapter] if origin.adapter else [])]
    folders += [setting.assets / name for name in ("closedtalk-codec", "closedtalk-data", "closedtalk-recogniser")]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    digest = hashlib.sha256()
    for file in [*files, setting.assets / REFERENCES_FILE]:
        if file.suffix in (".safetensors", ".parquet", ".json") and file.is_file():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def data_hash(path: str | None) -> str | None:
    """Of the files that a config takes its prompts from; None for the shipped ones, which are the base's."""
    if path is None:
        return None
    given = Path(path)
    files = [given] if given.is_file() else sorted(each for each in given.rglob("*") if each.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def cpu_share(cell: Cell) -> float:
    """Seconds of CPU for each second on the clock while the cell trained: below 1 where others used the core too."""
    clock = read_json(cell.folder / CLOCK) or {}
    return clock["cpu_s"] / clock["wall_s"] if clock.get("wall_s") else 1.0


def training_seconds(cell: Cell) -> list[tuple[int, float]]:
    """(step, seconds of CPU spent on steps up to it), without the evaluations in between. Replies that another run
    had drawn count as if this one had drawn them."""
    share, total, result = cpu_share(cell), 0.0, []
    for line in cell.metrics:
        total += line.get("step_time", 0.0) * share + line.get("perf/kept_cpu_s", 0.0)
        result.append((line["step"], total))
    return result


def refuse_other_settings(cell: Cell, mean_lambda: float | None) -> None:
    """Raises:
    ReproduceError: when the cell's folder holds a run, begun or finished, with another config than is asked for now.
    """
    path = cell.run / CONFIG
    if path.is_file() and load_config(path) != cell.config(mean_lambda):
        raise ReproduceError(
            f"{cell.run} was begun with other settings. Give those again, name another --work, or delete that folder."
        )
    known = read_json(cell.folder / DATA)
    if known is not None and known["sha256"] != data_hash(cell.config(mean_lambda).data.path):
        raise ReproduceError(
            f"{cell.run} was begun on other prompts than {cell.config(mean_lambda).data.path} holds now. Make those "
            "again, name another --work, or delete that folder."
        )


def _count(cell: Cell, cpu: float, wall: float) -> None:
    clock = read_json(cell.folder / CLOCK) or {"cpu_s": 0.0, "wall_s": 0.0}
    write_json(cell.folder / CLOCK, {"cpu_s": clock["cpu_s"] + cpu, "wall_s": clock["wall_s"] + wall})


@contextlib.contextmanager
def _until(deadline: float | None, stop: Any) -> Iterator[None]:
    """Asks a run to stop at ``deadline``; it saves and can go on later."""
    if deadline is None:
        yield
        return
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), stop.ask, ["the minutes are spent"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_json(path: Path) -> dict[str, Any] | None:
    """None where there is no such file, or it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    temporary.replace(path)
