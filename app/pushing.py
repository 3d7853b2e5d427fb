"""Copies of the votes that go to the Hub while the app runs, as its environment says; the last goes when it ends.

Where the machine forgets (a Space without persistent storage), the copies are what is left: an empty database is
filled from them before anything is pushed, since a push takes back what the database does not hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from app import logs
from app.export_hub import Hub, MissingError, Pushed, Pusher, PushError
from app.export_shards import Level, ShardError
from app.services import Services
from app.store import Store, StoreError
from app.store.schema import Rater

BEGUN = "refilling"
"""A file beside the database while it is filled: whoever finds it fills again."""


class Pushing:
    """``start`` begins, ``stop`` flushes; without WAVALIGN_PUSH_VOTES or WAVALIGN_PUSH_BACKUP nothing is done."""

    def __init__(self, services: Services, told: Callable[[str], None] = logs.say) -> None:
        self._services = services
        self._told = told
        self._pushers: list[Pusher] = []

    @property
    def is_wanted(self) -> bool:
        return bool(self._repositories())

    def start(self) -> None:
        """Fills an empty database from the copies, then pushes now and then.

        A database that cannot be used is told in one sentence: the app runs on, its pages say the same.
        """
        if not self.is_wanted:
            return
        settings = self._services.settings
        try:
            store = self._services.voting.store
        except StoreError as error:
            self._told(f"Votes are not pushed: {error}")
            return
        notes = settings.home / "arena" / "pushed"
        # The backup first: it holds more.
        hubs = [Hub(store, repo, notes, level) for repo, level in self._repositories()]
        refilling = Refilling(store, hubs, settings.home / "arena" / BEGUN, self._told)
        try:
            refilling.do()
        except PushError as error:
            self._told(f"{error} It is tried again; until then nothing is pushed.")
        for hub in hubs:
            self._pushers.append(Pusher(_Careful(hub, refilling), settings.push_minutes, self._told).start())

    def stop(self) -> None:
        """Returns when all that was said so far is on the Hub, or was refused by it."""
        for pusher in self._pushers:
            pusher.stop()

    def _repositories(self) -> list[tuple[str, Level]]:
        settings = self._services.settings
        wanted: list[tuple[str | None, Level]] = [
            (settings.push_backup, "everything"),
            (settings.push_votes, "publish"),
        ]
        return [(repo, level) for repo, level in wanted if repo]


@dataclass
class Refilling:
    """Fills a database that is empty, once. ``begun`` marks a refill that was cut off."""

    store: Store
    hubs: list[Hub]
    begun: Path
    told: Callable[[str], None] = logs.say
    _done: bool = False
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._done = not (self.begun.exists() or is_empty(self.store))

    def do(self) -> None:
        """Does nothing the second time.

        Raises:
            PushError: one sentence, when a copy cannot be read; then the database is as it was.
        """
        with self._alone:
            if self._done:
                return
            self.begun.parent.mkdir(parents=True, exist_ok=True)
            self.begun.touch()
            for hub in self.hubs:
                self._from(hub)
            self.begun.unlink(missing_ok=True)
            self._done = True

    def _from(self, hub: Hub) -> None:
        try:
            made = hub.rebuild()
        except MissingError:
            return  # nothing was pushed yet
        except (PushError, ShardError, OSError) as error:
            why = logs.where(error.__cause__ or error)
            raise PushError(f"The votes in {hub.repo} cannot be read back ({why}).") from error
        if made.rows:
            self.told(
                f"The database was empty: {made.rows} rows and {made.recordings} recordings came back from {hub.repo}."
            )


@dataclass
class _Careful:
    """A hub to which nothing is pushed before what it holds is in the database."""

    hub: Hub
    refilling: Refilling

    @property
    def repo(self) -> str:
        return self.hub.repo

    def push(self) -> Pushed:
        self.refilling.do()
        return self.hub.push()


def is_empty(store: Store) -> bool:
    """Whether nobody was ever here."""
    with store.reading() as session:
        return session.scalar(select(Rater.id).limit(1)) is None
