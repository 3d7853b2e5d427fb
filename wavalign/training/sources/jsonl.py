"""A JSONL file, one row of the published schema a line (or a .json list of rows); audio paths start at the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wavalign.training.data_config import DataConfig
from wavalign.training.examples import DataError, Entry, UnreadableRow
from wavalign.training.sources.rows import RowError, entry_of


def read(
    config: DataConfig, assets: Path, convert: Callable[[Any], Any] = lambda row: row
) -> tuple[list[Entry], list[UnreadableRow]]:
    """The rows that can be used, and those that cannot; ``convert`` makes other rows into the schema's.

    Raises:
        DataError: when the file itself cannot be read.
    """
    path = Path(config.path or "").expanduser()
    numbered = _list_of(path) if path.suffix == ".json" else lines(path)
    entries: list[Entry] = []
    unreadable: list[UnreadableRow] = []
    for number, row in numbered:
        try:
            row = _parsed(row) if isinstance(row, bytes) else row
            entries.append(entry_of(convert(row), f"{path.name}:{number}", path.parent, config.check_audio))
        except RowError as error:
            unreadable.append(UnreadableRow(path, number, str(error)))
    return entries, unreadable


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1.

    Raises:
        DataError: when the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataError(f"The data file {path} cannot be read ({error.strerror}).") from error


def _list_of(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a JSON list, numbered from 1."""
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"The data file {path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON; rows that stand one a line belong in a .jsonl file.") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} must hold a list of rows.")
    yield from enumerate(rows, start=1)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowError("the line is not UTF-8 text.") from error
    except ValueError as error:
        raise RowError(f"the line is not JSON ({error}).") from error
