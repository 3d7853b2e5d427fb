"""Whether the Python files in a checkpoint's folder may run: because the host named it, or named the same files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from wavalign.models.registry_entries import may_run_code, trusted_sources

_CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json")


def may_run_code_in(folder: Path, source: str | None = None, environment: Mapping[str, str] = os.environ) -> bool:
    """``source`` is where the folder came from (a hub id); None: it is only a folder.

    Files that are byte for byte those of a source that the host named may run as well: what full fine-tuning made of
    it, and a copy of it in the hub's cache.
    """
    if may_run_code(source or str(folder), environment) or may_run_code(str(folder), environment):
        return True
    mine = _code(folder)
    if not mine or _borrows(folder):
        return False
    return any(mine.items() <= _code(other).items() for other in _trusted_folders(environment))


def _code(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.py") if file.is_file()}


def _borrows(folder: Path) -> bool:
    """Whether a config names classes of another repository (``owner/name--module.Class``)."""
    for name in _CONFIGS:
        try:
            told = json.loads((folder / name).read_text(encoding="utf-8")).get("auto_map") or {}
        except (OSError, ValueError, AttributeError):
            continue
        if "--" in json.dumps(told):
            return True
    return False


def _trusted_folders(environment: Mapping[str, str]) -> Iterator[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    for source in trusted_sources(environment):
        if Path(source).is_absolute():
            if Path(source).is_dir():
                yield Path(source)
        else:
            cached = Path(HF_HUB_CACHE) / f"models--{source.replace('/', '--')}" / "snapshots"
            yield from (each for each in cached.glob("*") if each.is_dir())
