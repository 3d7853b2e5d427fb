"""Copies of the log on the Hugging Face Hub: shards that are added and never changed, withdrawn when a rater says so.

What was sent is what the Hub lists; the local notes only save downloading it again. So a push that was cut off, or
whose answer was lost, is simply done again.
"""

from __future__ import annotations

import atexit
import json
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from sqlalchemy import select

from app import export_parquet
from app.battles import Rules
from app.export_card import card
from app.export_rows import VIEWS, SameWords, Selection, rows, selected
from app.export_shards import Entry, Key, Level, Rebuilt, entries, keys_of, rebuild, write_shard
from app.store import Store
from app.store.schema import CONTENTS, ErasedBattle

FOLDER = "log"
LEAST_MINUTES = 5.0
"""Between two pushes: the Hub counts commits by the hour."""
_ENTRIES_A_SHARD = 20_000
#: The errors of whatever HTTP library huggingface_hub uses, and OSError.
_UNREACHABLE = HfHubHTTPError.__bases__


class PushError(RuntimeError):
    """A push or rebuild that cannot be made; the message is one sentence for the host."""


class MissingError(PushError):
    """There is no such repository, or none that this token may see."""


@dataclass(frozen=True)
class Pushed:
    """``entries`` rows and recordings went up in ``shards``; ``withdrawn`` shards were replaced."""

    entries: int
    shards: tuple[str, ...]
    withdrawn: tuple[str, ...]


@dataclass(frozen=True)
class Hub:
    """One dataset repository. ``level`` ``everything`` goes to private repositories only."""

    store: Store
    repo: str
    notes: Path
    level: Level = "publish"
    api: HfApi | None = None
    clock: Callable[[], float] = time.time
    rules: Rules = field(default_factory=Rules)

    def push(self, *, views: bool = True) -> Pushed:
        """Sends what the Hub lacks, takes back what it may no longer hold, in one commit.

        Raises:
            PushError: no such access, or ``everything`` into a public repository.
        """
        try:
            return self._push(views and self.level == "publish")
        except HfHubHTTPError as error:
            raise PushError(f"The Hub did not take the push to {self.repo}: {error.server_message or error}") from error
        except _UNREACHABLE as error:
            raise PushError(f"The Hub cannot be reached: {error}") from error

    def rebuild(self) -> Rebuilt:
        """Fills the database from all shards on the Hub.

        Raises:
            PushError: the shards cannot be had; MissingError where there is no such repository.
            ShardError: they do not make a whole.
        """
        with tempfile.TemporaryDirectory(prefix="wavalign-shards-") as folder:
            try:
                paths = [
                    Path(self._api.hf_hub_download(self.repo, name, repo_type="dataset", local_dir=folder))
                    for name in self._listed()
                ]
            except RepositoryNotFoundError as error:
                raise MissingError(
                    f"There is no dataset {self.repo} on the Hub that this token may read; check the name and HF_TOKEN."
                ) from error
            except HfHubHTTPError as error:
                raise PushError(f"The Hub did not give {self.repo}: {error.server_message or error}") from error
            except _UNREACHABLE as error:
                raise PushError(f"The Hub cannot be reached: {error}") from error
            return rebuild(self.store, paths)

    @property
    def _api(self) -> HfApi:
        return self.api or HfApi()

    def _push(self, views: bool) -> Pushed:
        self._repository()
        listed = self._listed()
        sent = {name: self._noted(name) for name in listed}
        with self.store.reading() as session:
            held = list(entries(session, self.level, self.clock(), self.rules))
            erased = set(session.scalars(select(ErasedBattle.battle)))
        keys = {entry.key for entry in held}
        stale = tuple(name for name, note in sent.items() if note.is_stale(keys, erased))
        there = {key for name, note in sent.items() if name not in stale for key in note.keys}
        fresh = [entry for entry in _once(held) if entry.key not in there]
        if not fresh and not stale:
            return Pushed(0, (), ())
        with tempfile.TemporaryDirectory(prefix="wavalign-push-") as folder:
            shards = [path for part in _parts(fresh) if (path := write_shard(self.store, Path(folder), part))]
            additions = [CommitOperationAdd(f"{FOLDER}/{path.name}", str(path)) for path in shards]
            deletions = [CommitOperationDelete(name) for name in stale]
            if views:
                added, dropped = self._views(Path(folder), shards[0].stem if shards else None)
                additions, deletions = additions + added, deletions + dropped
            self._api.create_commit(
                self.repo,
                [*additions, *deletions],
                commit_message=f"{len(fresh)} entries" + (f", {len(stale)} shards withdrawn" if stale else ""),
                repo_type="dataset",
            )
            for path in shards:
                _Note(keys_of(path), frozenset(erased)).write(self._note_path(f"{FOLDER}/{path.name}"))
        if stale:  # what was erased must not live on in the history
            self._api.super_squash_history(self.repo, repo_type="dataset")
        return Pushed(len(fresh), tuple(path.name for path in shards), stale)

    def _repository(self) -> None:
        try:
            private = self._api.repo_info(self.repo, repo_type="dataset").private
        except RepositoryNotFoundError:
            private = self.level == "everything"
            self._api.create_repo(self.repo, repo_type="dataset", private=private, exist_ok=True)
        if self.level == "everything" and not private:
            raise PushError(f"{self.repo} is public: a backup of everything goes to a private repository only.")

    def _listed(self) -> list[str]:
        files = self._api.list_repo_files(self.repo, repo_type="dataset")
        return sorted(name for name in files if name.startswith(f"{FOLDER}/") and name.endswith(".parquet"))

    def _views(self, folder: Path, stem: str | None) -> tuple[list[CommitOperationAdd], list[CommitOperationDelete]]:
        """The dataset as it reads now, under new names; the old names go in the same commit."""
        selection = Selection(least_consent="publish", until=self.clock() - self.rules.undo)
        votes = selected(self.store, selection)
        counts, additions, same = {}, [], 0
        for view in VIEWS:
            path = folder / f"{view}.parquet"
            told = SameWords(rows(self.store, view, votes))
            counts[view] = export_parquet.write(path, view, told)
            same = max(same, told.count)
            additions.append(CommitOperationAdd(f"{view}/{view}-{stem or 'withdrawn'}.parquet", str(path)))
        text = card(self.repo.split("/")[-1], selection, votes, counts, same_words=same)
        additions.append(CommitOperationAdd("README.md", text.encode()))
        new = {each.path_in_repo for each in additions}
        files = self._api.list_repo_files(self.repo, repo_type="dataset")
        old = [name for name in files if name.split("/")[0] in VIEWS and name not in new]
        return additions, [CommitOperationDelete(name) for name in old]

    def _noted(self, name: str) -> _Note:
        path = self._note_path(name)
        if not path.is_file():
            with tempfile.TemporaryDirectory(prefix="wavalign-shard-") as folder:
                shard = self._api.hf_hub_download(self.repo, name, repo_type="dataset", local_dir=folder)
                _Note(keys_of(Path(shard)), frozenset()).write(path)
        return _Note.read(path)

    def _note_path(self, name: str) -> Path:
        return self.notes / self.repo.replace("/", "--") / f"{Path(name).stem}.json"


@dataclass(frozen=True)
class _Note:
    """What one shard holds, and which battles were blank already when it was written."""

    keys: dict[Key, str | None]
    blank: frozenset[str]

    def is_stale(self, held: set[Key], erased: set[str]) -> bool:
        """Whether it holds what copies may no longer hold."""
        if any(key not in held for key in self.keys):
            return True
        late = erased - self.blank
        return any(battle in late and table in CONTENTS for (table, _), battle in self.keys.items())

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        note = {"keys": [[*key, battle] for key, battle in self.keys.items()], "blank": sorted(self.blank)}
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(note), encoding="utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> _Note:
        note = json.loads(path.read_text(encoding="utf-8"))
        return cls({(table, key): battle for table, key, battle in note["keys"]}, frozenset(note["blank"]))


class Pusher:
    """Pushes every so often in the background, and once more when the program ends."""

    def __init__(self, hub: Hub, minutes: float, told: Callable[[str], None] = print) -> None:
        self._hub = hub
        self._seconds = 60 * max(minutes, LEAST_MINUTES)
        self._told = told
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pusher", daemon=True)

    def start(self) -> Pusher:
        self._thread.start()
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Ends the waiting and flushes; a second call does nothing."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self._once()
            atexit.unregister(self.stop)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._once()

    def _once(self) -> None:
        try:
            pushed = self._hub.push()
        except PushError as error:  # told and tried again: nothing is lost, it is all in the database
            self._told(str(error))
            return
        except Exception as error:  # whatever it is, the next push must still be tried
            traceback.print_exception(error, file=sys.stderr)
            self._told(f"The push to {self._hub.repo} failed ({type(error).__name__}); it is tried again.")
            return
        if pushed.entries or pushed.withdrawn:
            self._told(f"Pushed {pushed.entries} entries to {self._hub.repo}.")


def _once(held: list[Entry]) -> list[Entry]:
    """The same recording may belong to several battles."""
    seen: set[Key] = set()
    return [entry for entry in held if not (entry.key in seen or seen.add(entry.key))]


def _parts(fresh: list[Entry]) -> Any:
    remaining = iter(fresh)
    while part := list(islice(remaining, _ENTRIES_A_SHARD)):
        yield part


__all__ = ["Hub", "MissingError", "PushError", "Pushed", "Pusher"]
