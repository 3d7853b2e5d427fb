"""Copies of runs and of the host's own checkpoints in a mounted bucket, for a machine that forgets.

A bucket takes whole files and nothing live: work is done on the local disk, and what is finished is copied. Of a run
that goes on, its newest complete state is copied, so that it can be resumed. What makes a folder count as whole is
copied last.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from app import logs
from app.place import FOLDER
from app.settings import Settings
from wavalign.models.registry import ADAPTER_FILE, HOME_FOLDER, RUNS_FOLDER
from wavalign.training import checkpoints
from wavalign.training.checkpoints import MANIFEST
from wavalign.training.journal import CHECKPOINTS

PLACES = (HOME_FOLDER, RUNS_FOLDER)
ENTRIES = "checkpoints.yaml"
SECONDS = 120.0
_LAST = (ADAPTER_FILE, MANIFEST, "interleaved.json")
"""With one of these a folder counts as whole."""
_GROWING = {".json", ".jsonl", ".yaml", ".log", ".md"}


class Keeping:
    """``home`` is the local one, ``bucket`` the mount. ``told`` gets a sentence for the host."""

    def __init__(self, home: Path, bucket: Path, told: Callable[[str], None] = logs.say) -> None:
        self.home, self.kept = home, bucket / FOLDER
        self._told = told
        self._known: dict[str, tuple[int, int]] = {}
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
        if (self.kept / ENTRIES).is_file() and not (self.home / ENTRIES).exists():
            _copy(self.kept / ENTRIES, self.home / ENTRIES)
        return brought

    def keep(self) -> int:
        """Copies what is new or has grown, and drops what was deleted here since; returns how many files."""
        copied = 0
        here = {Path(place) / each.name for place in PLACES for each in _folders(self.home / place)}
        for folder in sorted(here):
            files = sorted(_worth_keeping(self.home / folder), key=lambda path: path.name in _LAST)
            for path in files:
                copied += self._keep(path)
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

    def _keep(self, path: Path) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:  # it was replaced in this moment; the next look finds the new one
            return False
        name, now = str(path.relative_to(self.home)), (status.st_size, status.st_mtime_ns)
        if self._known.get(name) == now:
            return False
        target = self.kept / name
        same = target.is_file() and target.stat().st_size == status.st_size and path.suffix not in _GROWING
        if not same:
            _copy(path, target)
        self._known[name] = now
        return not same


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
