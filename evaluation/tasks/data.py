"""Data sets that are not shipped: a local folder, or a repository of the hub whose files are fetched as they are.

Rows are read with pyarrow and recordings with soundfile, so that the ``datasets`` package and its audio decoder
(torchcodec) are not needed. Nothing is unpacked, converted or changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from huggingface_hub import snapshot_download

from evaluation.tasks.protocol import TaskContext, TaskError
from wavalign import audio
from wavalign.audio import AudioError, Waveform

_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def folder_of(task: str, context: TaskContext, hub: str, patterns: Sequence[str]) -> Path:
    """The folder of a task's data. ``hub`` is where the data set is published, ``patterns`` the files that are needed.

    ``context.data[task]`` is a folder, or a hub id such as "owner/name@revision" (a branch, tag or commit).

    Raises:
        TaskError: when nothing is given, the folder is missing, or the hub does not have it.
    """
    source = context.data.get(task)
    if not source:
        raise TaskError(f'The data of "{task}" is not shipped: give its folder, or the hub id {hub}, as {task}=...')
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    named = _HUB_ID.fullmatch(source)
    if named is None or source.startswith((".", "~", "/")):
        raise TaskError(f'There is no folder "{source}" for "{task}"; give one, or the hub id {hub}.')
    try:
        return Path(snapshot_download(named[1], repo_type="dataset", revision=named[2], allow_patterns=list(patterns)))
    except Exception as error:  # the hub's client raises its own kind for every place that can fail
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TaskError(
            f'"{source}", for "{task}", is no folder and could not be fetched from the hub '
            f"({type(error).__name__}: {reason})."
        ) from error


class ParquetRows:
    """The rows of parquet files, one after the other, each read when it is asked for."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str], task: str) -> None:
        """Raises:
        TaskError: when a file is not parquet, or lacks one of ``columns``.
        """
        self.files = tuple(files)
        self._tables = [_table(file, columns, task) for file in self.files]
        self._places = [(t, row) for t, table in enumerate(self._tables) for row in range(table.num_rows)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> dict[str, Any]:
        table, row = self._places[place]
        return self._tables[table].slice(row, 1).to_pylist()[0]

    def column(self, name: str) -> list[Any]:
        """One column whole; None everywhere in files that lack it."""
        return [
            value
            for table in self._tables
            for value in (table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows)
        ]


def _table(file: Path, columns: Sequence[str], task: str) -> pyarrow.Table:
    try:
        table = pyarrow.parquet.read_table(file, memory_map=True)
    except (pyarrow.ArrowException, OSError) as error:
        raise TaskError(f'{file}, for "{task}", cannot be read as parquet ({str(error).splitlines()[0]}).') from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise TaskError(
            f'{file}, for "{task}", has no column {", ".join(missing)}; its columns are: '
            f"{', '.join(table.column_names)}."
        )
    return table


def recording(value: Any, folder: Path, what: str) -> Waveform:
    """The audio of a cell: a path (relative ones start at ``folder``), bytes, or the hub's struct of either.

    Raises:
        TaskError: when there is none or it cannot be decoded; ``what`` names the prompt.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if not isinstance(value, (str, bytes)) or not value:
        raise TaskError(f"{what} has no recording.")
    source = value if isinstance(value, bytes) else _path(value, folder, what)
    try:
        return audio.read(source)
    except AudioError as error:
        raise TaskError(f"The recording of {what} cannot be decoded: {error}") from error


def _path(value: str, folder: Path, what: str) -> Path:
    """A file of the data set's own folder."""
    if Path(value).is_absolute() or ".." in Path(value).parts:
        raise TaskError(f'{what} names the recording "{value}", which is outside its data set.')
    if not (folder / value).is_file():
        raise TaskError(f"The recording of {what} is missing: {folder / value}.")
    return folder / value
