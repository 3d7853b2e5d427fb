"""The checkpoints there are, and loading them: a base once, its adapters onto it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from wavalign.models.layout import LAYOUT_FILE, InterleavedDescription
from wavalign.models.protocol import Checkpoint, CheckpointError, Sampling

ADAPTER_FILE = "adapter_config.json"
LAYOUTS: dict[str, str] = {LAYOUT_FILE: "interleaved"}
"""The description file that marks a base folder -> its layout's name."""
HOME_FOLDER = "checkpoints"
RUNS_FOLDER, RUN_RESULT = "runs", "adapter"


class Registry:
    """Checkpoints are folders in ``assets_dir`` and in ``checkpoints/`` of ``home``; a folder's name is its name.

    What a run of post-training made, ``runs/<name>/adapter`` of ``home``, is a checkpoint with the run's name.

    A base holds a layout description beside its weights; an adapter is a plain PEFT folder whose
    ``base_model_name_or_path`` ends in the name of its base. Loaded bases are kept and shared.
    """

    def __init__(self, assets_dir: str | Path, home: str | Path | None = None) -> None:
        self.places = [Path(assets_dir)] + ([Path(home) / HOME_FOLDER] if home else [])
        self.runs = Path(home) / RUNS_FOLDER if home else None
        self._bases: dict[str, Any] = {}
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Names of all checkpoints, bases first, each group sorted. Broken ones are listed too: loading says why."""
        found: dict[str, bool] = {}
        folders = [(f.name, f) for place in self.places if place.is_dir() for f in sorted(place.iterdir())]
        if self.runs and self.runs.is_dir():
            folders += [(run.name, run / RUN_RESULT) for run in sorted(self.runs.iterdir())]
        for name, folder in folders:
            is_base = any((folder / marker).is_file() for marker in LAYOUTS)
            if is_base or (folder / ADAPTER_FILE).is_file():
                found.setdefault(name, is_base)
        return tuple(sorted(found, key=lambda name: (not found[name], name)))

    def checkpoint(self, name: str) -> Checkpoint:
        """What is known of a checkpoint without loading it.

        Raises:
            CheckpointError: when there is no such folder, or it does not say what it is.
        """
        folder = self._folder(name)
        if (folder / ADAPTER_FILE).is_file():
            base_name = self._base_of(name, folder)
            base = self.checkpoint(base_name)
            return Checkpoint(name, base.layout, base.base, base_name, folder, _provenance(folder))
        for marker, layout in LAYOUTS.items():
            if (folder / marker).is_file():
                return Checkpoint(name, layout, folder, name, None, _provenance(folder))
        raise CheckpointError(
            f'"{name}" is not a checkpoint: {folder} holds neither {" nor ".join(LAYOUTS)} nor {ADAPTER_FILE}.'
        )

    def default_sampling(self, name: str) -> Sampling:
        """What the checkpoint's layout description recommends.

        Raises:
            CheckpointError: when there is no such checkpoint, or its description is wrong.
        """
        return InterleavedDescription.read(self.checkpoint(name).base).sampling

    def load(self, names: Sequence[str]) -> Any:
        """A model over these checkpoints, which share one base; a base that is loaded already is not loaded again.

        Returns an ``InterleavedModel``: a ``SpokenDialogueModel`` and ``TrainablePolicy``.

        Raises:
            CheckpointError: one sentence about the first checkpoint that cannot be used.
        """
        from wavalign.models import loading
        from wavalign.models.interleaved import InterleavedModel

        checkpoints = [self.checkpoint(name) for name in dict.fromkeys(names)]
        if not checkpoints:
            raise CheckpointError("No checkpoint was named. Choose one.")
        base_name = checkpoints[0].base_name
        for other in checkpoints[1:]:
            if other.base_name != base_name:
                raise CheckpointError(
                    f'"{checkpoints[0].name}" and "{other.name}" have different bases ("{base_name}" and '
                    f'"{other.base_name}") and cannot answer together. Choose checkpoints of one base.'
                )
        with self._lock:
            if base_name not in self._bases:
                self._bases[base_name] = loading.load_base(base_name, Path(checkpoints[0].base))
            base = self._bases[base_name]
            adapters = {
                c.name: None if c.adapter is None else loading.attach(base, c.name, c.adapter) for c in checkpoints
            }
        return InterleavedModel(base, adapters)

    def forget(self) -> None:
        """Drops the loaded bases; models that are in use keep theirs until they are dropped too."""
        with self._lock:
            self._bases.clear()

    def _folder(self, name: str) -> Path:
        if not name or Path(name).name != name:
            raise CheckpointError(f'"{name}" is not a checkpoint\'s name. The names are: {self._known()}.')
        for place in self.places:
            if (place / name).is_dir():
                return place / name
        if self.runs and (self.runs / name / RUN_RESULT).is_dir():
            return self.runs / name / RUN_RESULT
        raise CheckpointError(f'There is no checkpoint "{name}". The names are: {self._known()}.')

    def _known(self) -> str:
        return ", ".join(self.names()) or "(none; build the embedded one or add a folder)"

    def _base_of(self, name: str, folder: Path) -> str:
        config = read_json(name, folder / ADAPTER_FILE)
        told = config.get("base_model_name_or_path")
        if not isinstance(told, str) or not told:
            raise CheckpointError(f'Adapter "{name}" does not say which base it is for (base_model_name_or_path).')
        base_name = Path(told).name
        bases = [n for n in self.names() if n != name and not (self._folder(n) / ADAPTER_FILE).is_file()]
        if base_name not in bases:
            raise CheckpointError(
                f'Adapter "{name}" is for the base "{base_name}", which is not among the checkpoints. Add that base.'
            )
        return base_name


def read_json(name: str, path: Path) -> dict[str, Any]:
    """The JSON object in ``path``, or a ``CheckpointError`` about checkpoint ``name``."""
    if not path.is_file():
        raise CheckpointError(f'Checkpoint "{name}" is incomplete: {path.name} is missing. Restore the folder.')
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f'Checkpoint "{name}" is broken: {path.name} is not valid JSON.') from error
    if not isinstance(data, dict):
        raise CheckpointError(f'Checkpoint "{name}" is broken: {path.name} does not hold a JSON object.')
    return data


def _provenance(folder: Path) -> dict[str, Any]:
    """``provenance.json``, else the front matter of the model card, else nothing."""
    if (folder / "provenance.json").is_file():
        return read_json(folder.name, folder / "provenance.json")
    card = folder / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8")
        if text.startswith("---\n") and "\n---" in text[4:]:
            try:
                matter = yaml.safe_load(text[4 : text.index("\n---", 4)])
            except yaml.YAMLError as error:
                raise CheckpointError(
                    f'The model card of "{folder.name}" has front matter that is not YAML.'
                ) from error
            return matter if isinstance(matter, dict) else {}
    return {}
