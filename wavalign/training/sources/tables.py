"""Rows of the published schema in parquet files, in a saved `datasets` folder, or on the hub.

Parquet is read with pyarrow alone. What was saved with ``save_to_disk`` and hub ids need the `datasets` package; audio
columns are read undecoded, so that its own decoder (torchcodec) is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet

from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError, Entry, Example, UnreadableRow
from wavalign.training.sources.rows import RowError, entry_of

SPLIT = "train"
_SAVED = ("dataset_info.json", "dataset_dict.json")


def read(
    config: DataConfig, assets: Path, convert: Callable[[Any], Any] = lambda row: row
) -> tuple[list[Entry], list[UnreadableRow]]:
    """The rows that can be used, and those that cannot; ``convert`` makes other rows into the schema's.

    Raises:
        DataError: when there is no such data set, or the package that it needs is missing.
    """
    path = Path(config.path or "").expanduser()
    if path.is_file():
        tables = [_Table(path, path.parent, _parquet(path))]
    elif path.is_dir() and not any((path / name).is_file() for name in _SAVED):
        tables = [_Table(file, path, _parquet(file)) for file in _parquet_files(path, config.split or SPLIT)]
    else:
        # A folder's rows go by its name, so that it can be moved.
        file, folder = (path.resolve(), path) if path.is_dir() else (config.path or "", None)
        tables = [_Table(file, folder, _through_datasets(config, path))]
    entries: list[Entry] = []
    unreadable: list[UnreadableRow] = []
    for table in tables:
        for number in range(1, len(table.rows) + 1):
            try:
                entry = table.entry(number, convert, config.check_audio)
            except RowError as error:
                unreadable.append(UnreadableRow(table.file, number, str(error)))
                continue
            # The row is read again when it is asked for: recordings inside a table would fill the memory.
            entries.append(Entry(entry.id, entry.task, partial(table.example, number, convert)))
    return entries, unreadable


class _Rows(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, place: int) -> dict: ...


@dataclass(frozen=True)
class _Table:
    """One table; ``folder`` is where relative paths in it start."""

    file: Path | str
    folder: Path | None
    rows: _Rows

    def entry(self, number: int, convert: Callable[[Any], Any], check_audio: bool) -> Entry:
        name = self.file.name if isinstance(self.file, Path) else self.file
        return entry_of(convert(self.rows[number - 1]), f"{name}:{number}", self.folder, check_audio)

    def example(self, number: int, convert: Callable[[Any], Any]) -> Example:
        try:
            return self.entry(number, convert, check_audio=False).load()
        except RowError as error:
            raise DataError(f"{self.file}:{number}: {error}") from error


class _ParquetRows:
    """Rows of an Arrow table, one at a time."""

    def __init__(self, table: pyarrow.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, place: int) -> dict:
        return self._table.slice(place, 1).to_pylist()[0]


def _parquet_files(folder: Path, split: str) -> list[Path]:
    """The split's files, named as the hub does: train.parquet, data/train-00000-of-00002.parquet, train/0.parquet."""
    files = sorted(folder.rglob("*.parquet"))
    chosen = [f for f in files if f.stem == split or f.stem.startswith(f"{split}-") or f.parent.name == split]
    if not chosen:
        found = ", ".join(str(file.relative_to(folder)) for file in files[:6])
        raise DataError(f'{folder} has no parquet file of the split "{split}"; it has: {found or "none"}.')
    return chosen


def _parquet(path: Path) -> _Rows:
    try:
        return _ParquetRows(pyarrow.parquet.read_table(path, memory_map=True))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet ({str(error).splitlines()[0]}).") from error


def _through_datasets(config: DataConfig, path: Path) -> _Rows:
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f'"{config.path}" needs the package datasets: pip install datasets, or give a folder of parquet files.'
        ) from error
    split = config.split or SPLIT
    try:
        if path.is_dir():
            table = datasets.load_from_disk(str(path))
            table = table[split] if isinstance(table, dict) else table
        else:
            table = datasets.load_dataset(config.path, split=split, revision=config.revision)
    except Exception as error:  # the package raises its own kind for every place that can fail
        reason = (str(error).splitlines() or [""])[0]
        raise DataError(
            f'The data set "{config.path}" (split "{split}") cannot be loaded ({type(error).__name__}: {reason}).'
        ) from error
    return _rows(datasets, table)


def _rows(datasets: Any, table: Any) -> _Rows:
    """The rows, with audio as bytes or path."""
    for name, feature in table.features.items():
        if isinstance(feature, datasets.Audio):
            table = table.cast_column(name, datasets.Audio(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Audio):
            table = table.cast_column(name, datasets.List(datasets.Audio(decode=False)))
    return table
