"""Encoders as code of a checkpoint: their classes from its Python files, their weights from its own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import wavalign.torchaudio_guard  # noqa: F401  (that code imports torchaudio)
from wavalign.audio import Waveform
from wavalign.models.description import LayoutError

CONFIG, WEIGHTS = "ears_config.json", "ears.safetensors"
"""What a fine-tuned base keeps of the checkpoint it was made of: the config and the tensors of its encoder."""


class Settings(dict):
    """A config's JSON object with its fields as attributes too, nested ones included."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError as error:
            raise AttributeError(name) from error
        return Settings(value) if isinstance(value, dict) else value


def settings_of(folder: Path) -> Settings:
    """The config that the checkpoint's own code knows."""
    path = folder / CONFIG if (folder / CONFIG).is_file() else folder / "config.json"
    return Settings(json.loads(path.read_text(encoding="utf-8")) | {"_name_or_path": str(folder)})


def module_of(folder: Path, module: str, class_name: str) -> ModuleType:
    """A module of the checkpoint. The host has allowed it to run.

    Raises:
        LayoutError: when it is not there, or needs a package that is not.
    """
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    try:
        found = get_class_from_dynamic_module(f"{module}.{class_name}", str(folder), local_files_only=True)
    except (OSError, ImportError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise LayoutError(
            f"{module}.py, the checkpoint's own code that hears recordings, cannot be imported: {said}"
            + ("" if said.endswith(".") else ".")
        ) from error
    return sys.modules[found.__module__]


def at_least(waveform: Waveform, rate: int, seconds: float = 0.1) -> torch.Tensor:
    """Samples (n,) at ``rate``, filled up with silence: an encoder makes nothing of a few samples."""
    samples = torch.from_numpy(waveform.resampled(rate).samples)
    return nn.functional.pad(samples, (0, max(0, int(seconds * rate) - len(samples))))


def shape_of(folder: Path, key: str) -> tuple[int, ...]:
    """The shape of a tensor in the checkpoint's files.

    Raises:
        LayoutError: when it is in none of them.
    """
    for file in _files(folder):
        with safe_open(str(file), framework="pt") as stored:
            if key in stored.keys():  # noqa: SIM118
                return tuple(stored.get_slice(key).get_shape())
    raise LayoutError(f"The checkpoint's files lack {key}, which hears recordings. Restore its weights.")


def _files(folder: Path) -> list[Path]:
    return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(folder.glob("model*.safetensors"))


def filled(modules: Mapping[str, nn.Module], folder: Path) -> None:
    """Puts the checkpoint's tensors into modules, by the prefix of their names.

    Raises:
        LayoutError: when one is missing or has another shape.
    """
    tensors: dict[str, dict[str, torch.Tensor]] = {prefix: {} for prefix in modules}
    for file in _files(folder):
        with safe_open(str(file), framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118
                for prefix in modules:
                    if key.startswith(prefix):
                        tensors[prefix][key[len(prefix) :]] = stored.get_tensor(key)
    for prefix, module in modules.items():
        try:
            module.load_state_dict(tensors[prefix])
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            raise LayoutError(f"The encoder ({prefix}*) does not fit the checkpoint's weights: {said}") from error
        module.eval().requires_grad_(False)


def keep(modules: Mapping[str, nn.Module], source: Path, folder: Path) -> None:
    """Writes what hears beside a fine-tuned base: the code of ``source``, its config, and the encoder's tensors."""
    settings = settings_of(source)
    settings.pop("_name_or_path")
    (folder / CONFIG).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    tensors = {
        f"{prefix}{name}": tensor.detach().cpu().contiguous()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    save_file(tensors, folder / WEIGHTS)
    for file in source.glob("*.py"):
        shutil.copyfile(file, folder / file.name)
