"""Examples from wherever they are: the source is chosen by name, filters are applied, what was left out is said."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError, Entry, Examples, UnreadableRow

SOURCES: dict[str, str] = {
    "closedtalk": "wavalign.training.sources.closedtalk:read",
    "jsonl": "wavalign.training.sources.jsonl:read",
    "datasets": "wavalign.training.sources.tables:read",
    "votes": "wavalign.training.sources.votes:read",
}
"""Source -> "module:function" that takes (config, assets) and gives what could be read and what could not."""

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def load_examples(config: DataConfig, assets: Path = ASSETS) -> Examples:
    """The examples of a config, in the source's order, with the rows that were left out in ``unreadable``.

    Audio files stay on disk: an example's are read when it is asked for.

    Raises:
        DataError: when the source is missing or holds nothing usable, or when a row is unreadable and the config
            says "fail"; the message names file and line.
    """
    module, _, name = SOURCES[config.source].partition(":")
    read: Callable[[DataConfig, Path], tuple[list[Entry], list[UnreadableRow]]] = getattr(
        importlib.import_module(module), name
    )
    entries, unreadable = read(config, assets)
    if unreadable and config.unreadable == "fail":
        more = f" ({len(unreadable) - 1} more rows cannot be read.)" if len(unreadable) > 1 else ""
        raise DataError(f'{unreadable[0]}{more} Repair the row, or set data.unreadable to "skip".')
    where = config.path or f"the split {config.split or 'post_training'} of ClosedTalk"
    if not entries:
        raise DataError(f"{where} holds no usable example ({len(unreadable)} rows cannot be read).")
    _refuse_repeated_ids(entries, where)
    kept = [entry for entry in entries if not config.tasks or entry.task in config.tasks]
    if config.pool is not None:
        pool = read_pool(config.pool)
        kept = [entry for entry in kept if entry.id in pool]
    if not kept:
        raise DataError(f"None of the {len(entries)} examples of {where} passes data.tasks and data.pool.")
    return Examples(kept[: config.limit], unreadable)


def read_pool(path: Path) -> frozenset[str]:
    """The ids that ``python -m wavalign.training.pool`` kept.

    Raises:
        DataError: when the file is missing or is not such a file.
    """
    try:
        return frozenset(json.loads(Path(path).read_text(encoding="utf-8"))["kept"])
    except OSError as error:
        raise DataError(f"The pool of prompts {path} cannot be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a pool of prompts; make one with python -m wavalign.training.pool.") from error


def _refuse_repeated_ids(entries: list[Entry], where: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise DataError(f'{where} has two examples with the id "{entry.id}"; ids must differ.')
        seen.add(entry.id)
