"""Copies of runs and of the host's own checkpoints in a mounted bucket, for a machine that forgets.

A bucket takes whole files and nothing live: work is done on the local disk, and what is finished is copied. Of a run
that goes on, its newest complete state is copied, so that it can be resumed. What makes a folder count as whole is
taken away before its other files are replaced, and copied after them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from app import logs
from app.place import FOLDER
from app.settings import Settings
from wavalign.models.description import LAYOUT_FILE
from wavalign.models.registry import ADAPTER_FILE, HOME_FOLDER, RUNS_FOLDER
from wavalign.training import checkpoints
from wavalign.training.checkpoints import MANIFEST
from wavalign.training.journal import CHECKPOINTS, RESULT

PLACES = (HOME_FOLDER, RUNS_FOLDER)
ENTRIES = "checkpoints.yaml"
SECONDS = 120.0
_MARKS = (ADAPTER_FILE, MANIFEST, LAYOUT_FILE, RESULT)
"""With one of these a folder counts as whole. In the order of copying: a result speaks of all below it."""
_GROWING = {".json", ".jsonl", ".yaml", ".log", ".md"}
_Stamp = tuple[int, int, int]
"""Size, time and inode of a file here. Of the bucket no time is trusted: a mount may not keep it."""


class Keeping:
    """``home`` is the local one, ``bucket`` the mount. ``told`` gets a sentence for the host."""

    def __init__(self, home: Path, bucket: Path, told: Callable[[str], None] = logs.say) -> None:
        self.home, self.kept = home, bucket / FOLDER
        self._told = told
        self._known: dict[str, _Stamp] = {}
        """What each file was here when its copy was last known to be the same."""
        self._seen: set[Path] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeping", daemon=True)
        self._trouble: str | None = None

    def bring_back(self) -> int:
        """Copies what is kept and is not here; to be called before anything looks at the home. Returns how many."""
        brought = 0
        for place in PLACES:
            for folder in _folders(self.kept / place):
                if not (self.home / place / folder.name).exists():
                    _copy_all(folder, self.home / place / folder.name)
                    brought += 1
                    for path in filter(Path.is_file, (self.home / place / folder.name).rglob("*")):
                        self._known[self._name(path)] = _stamp(path.stat())
        if (self.kept / ENTRIES).is_file() and not (self.home / ENTRIES).exists():
            _copy(self.kept / ENTRIES, self.home / ENTRIES)
        return brought

    def keep(self) -> int:
        """Copies what is new or has grown, and drops what was deleted here since; returns how many files."""
        copied = 0
        here = {Path(place) / each.name for place in PLACES for each in _folders(self.home / place)}
        for folder in sorted(here):
            files = list(_worth_keeping(self.home / folder))
            copied += self._keep_folder(folder, files)
            wanted = {path.relative_to(self.home) for path in files}
            states = (self.kept / folder / CHECKPOINTS).glob("step-*")
            for old in [each for each in states if not any(each.name in path.parts for path in wanted)]:
                shutil.rmtree(old, ignore_errors=True)
        if (self.home / ENTRIES).is_file():
            copied += self._keep(self.home / ENTRIES)
        for gone in self._seen - here:
            shutil.rmtree(self.kept / gone, ignore_errors=True)
        self._seen = here
        return copied

    def start(self) -> Keeping:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Copies a last time; a second call does nothing."""
        if not self._ended.is_set():
            self._ended.set()
            if self._thread.is_alive():
                self._thread.join()
            self._once()

    def _run(self) -> None:
        while not self._ended.wait(SECONDS):
            self._once()

    def _once(self) -> None:
        try:
            self.keep()
            self._trouble = None
        except OSError as error:  # tried again: the files are here as well
            trouble = f"Runs cannot be copied to {self.kept}: {error.strerror or error}."
            if trouble != self._trouble:
                self._told(trouble)
            self._trouble = trouble

    def _keep_folder(self, folder: Path, files: list[Path]) -> int:
        marks = sorted((path for path in files if path.name in _MARKS), key=lambda path: _MARKS.index(path.name))
        others = [path for path in files if path.name not in _MARKS]
        copied = sum(self._keep(path, folder) for path in others)
        # Written while it was copied: what would call the copy whole waits for the next look.
        changed = [path for path in others if path.suffix not in _GROWING and not self._is_known(path)]
        for mark in marks:
            if not any(path.is_relative_to(mark.parent) for path in changed):
                copied += self._keep(mark)
        return copied

    def _keep(self, path: Path, folder: Path | None = None) -> bool:
        """Whether it was copied. ``folder``: its marks are taken away first, for this file is no mark itself."""
        try:
            now = _stamp(path.stat())
        except FileNotFoundError:  # it was replaced in this moment; the next look finds the new one
            return False
        name = self._name(path)
        if self._known.get(name) == now:
            return False
        target = self.kept / name
        same = _same(path, target)
        if not same:
            if folder is not None and path.suffix not in _GROWING:
                self._unmark(target.parent, self.kept / folder)
            self._known.pop(name, None)
            _copy(path, target)
        self._known[name] = now
        return not same

    def _unmark(self, place: Path, top: Path) -> None:
        """A copy that is cut off now must not be taken for whole: not in ``place``, nor in what it belongs to."""
        while place.is_relative_to(top):
            for mark in _MARKS:
                (place / mark).unlink(missing_ok=True)
                self._known.pop(str((place / mark).relative_to(self.kept)), None)
            place = place.parent

    def _is_known(self, path: Path) -> bool:
        try:
            return self._known.get(self._name(path)) == _stamp(path.stat())
        except FileNotFoundError:
            return False

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.home))


def keeping_of(settings: Settings) -> Keeping | None:
    """Begun, and what was kept is back, where there is a bucket; None elsewhere."""
    bucket = settings.place.bucket
    if bucket is None:
        return None
    keeping = Keeping(settings.home, bucket)
    try:
        brought = keeping.bring_back()
    except OSError as error:
        logs.say(f"What is kept in {bucket} cannot be read: {error.strerror or error}. Nothing is copied there now.")
        return None
    if brought:
        logs.say(f"{brought} runs and checkpoints came back from {bucket}.", event="brought back")
    return keeping.start()


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return [each for each in sorted(place.iterdir()) if each.is_dir() and not each.name.startswith(".")]


def _worth_keeping(folder: Path) -> Iterator[Path]:
    """Of the states of a run only the newest complete one; nothing that is half written."""
    newest = checkpoints.latest(folder / CHECKPOINTS)
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or path.suffix == ".tmp" or not path.is_file():
            continue
        if parts[0] == CHECKPOINTS and (newest is None or parts[1] != newest.folder.name):
            continue
        yield path


def _copy_all(source: Path, target: Path) -> None:
    """A folder at once: it has its name when it is whole."""
    draft = target.with_name(f".{target.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft)
    draft.rename(target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _same(path: Path, copy: Path) -> bool:
    """By what is in them: a file is replaced by one of equal size."""
    if not copy.is_file() or copy.stat().st_size != path.stat().st_size:
        return False
    return _digest(path) == _digest(copy)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
