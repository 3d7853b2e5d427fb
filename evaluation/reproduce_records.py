"""What is left of finished cells when their folders are gone: one small file each, from which tables can be made again.

<records>/base.json                    the untrained base: its hash and its measures
<records>/<variant>-seed-N.json        config, measures by prompt, and what tables read of the run's metrics

A record holds no weights. It counts for the same base, config, prompts and sizes only; otherwise the cell is done anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.reproduce_cells import (
    BASE_FILE,
    CLOCK,
    DATA,
    MEASURED,
    Cell,
    Setting,
    base_hash,
    data_hash,
    read_json,
    write_json,
)
from evaluation.reproduce_summary import CURVES, TRAINING
from wavalign.training.config_files import load_config
from wavalign.training.journal import CONFIG, METRICS, RESULT

_KEPT = ("step", "step_time", "perf/kept_cpu_s", *CURVES, *TRAINING)


def keep(cell: Cell, base: Mapping[str, Any], records: Path) -> Path:
    """The record of a finished cell, written with the base's beside it; a file that says the same is left alone."""
    lines = [{name: line[name] for name in _KEPT if name in line} for line in cell.metrics]
    found = {
        "base": base["sha256"],
        "config": (cell.run / CONFIG).read_text(encoding="utf-8"),
        "metrics": lines,
        "measured": cell.measures,
        "data": (read_json(cell.folder / DATA) or {}).get("sha256"),
        "clock": json.loads((cell.folder / CLOCK).read_text(encoding="utf-8")),
    }
    path = _path(cell, records)
    for file, content in ((records / BASE_FILE, base), (path, found)):
        if read_json(file) != content:
            write_json(file, content)
    return path


def restore(
    cells: Sequence[Cell], mean_lambda: Callable[[Cell], float | None], setting: Setting, records: Path
) -> list[Cell]:
    """Lays the folders of cells that are recorded, but not in the work folder; returns them. Nothing is overwritten.

    ``mean_lambda`` tells the mean that a cell's variant takes, once the run that it is of is there.
    """
    base = read_json(records / BASE_FILE)
    hashed = base_hash(setting)
    if base is None or base["sha256"] != hashed or base["sizes"] != asdict(setting.sizes):
        return []
    if not (setting.work / BASE_FILE).exists():
        write_json(setting.work / BASE_FILE, base)
    laid = []
    for cell in cells:
        found = read_json(_path(cell, records))
        if found is None or found["base"] != hashed or found["measured"]["sizes"] != asdict(setting.sizes):
            continue
        if not cell.folder.exists() and _lay(cell, found, mean_lambda(cell)):
            laid.append(cell)
    return laid


def _lay(cell: Cell, found: Mapping[str, Any], mean_lambda: float | None) -> bool:
    """Whether the record was of the config that is asked for, and its folder is there now."""
    if cell.variant.mean_of is not None and mean_lambda is None:
        return False
    draft = cell.folder.with_name(f".{cell.folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    run = draft / cell.run.name
    run.mkdir(parents=True)
    (run / CONFIG).write_text(found["config"], encoding="utf-8")
    config = cell.config(mean_lambda)
    if load_config(run / CONFIG) != config or found.get("data") != data_hash(config.data.path):
        shutil.rmtree(draft)
        return False
    (run / METRICS).write_text("".join(json.dumps(line) + "\n" for line in found["metrics"]), encoding="utf-8")
    write_json(draft / MEASURED, found["measured"])
    write_json(draft / CLOCK, found["clock"])
    write_json(draft / DATA, {"sha256": found.get("data")})
    write_json(run / RESULT, {"status": "completed", "reason": "restored from its record"})
    draft.replace(cell.folder)
    return True


def _path(cell: Cell, records: Path) -> Path:
    return records / f"{cell.variant.slug}-seed-{cell.seed}.json"
