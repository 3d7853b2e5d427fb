"""Copies of the votes that go to the Hub while the app runs, as its environment says; the last goes when it ends."""

from __future__ import annotations

from collections.abc import Callable

from app.export_hub import Hub, Pusher
from app.export_shards import Level
from app.services import Services
from app.store import StoreError


class Pushing:
    """``start`` begins, ``stop`` flushes; without WAVALIGN_PUSH_VOTES or WAVALIGN_PUSH_BACKUP nothing is done."""

    def __init__(self, services: Services, told: Callable[[str], None] = print) -> None:
        self._services = services
        self._told = told
        self._pushers: list[Pusher] = []

    @property
    def is_wanted(self) -> bool:
        return bool(self._repositories())

    def start(self) -> None:
        """A database that cannot be used is told in one sentence: the app runs on, its pages say the same."""
        if not self.is_wanted:
            return
        settings = self._services.settings
        try:
            store = self._services.voting.store
        except StoreError as error:
            self._told(f"Votes are not pushed: {error}")
            return
        for repo, level in self._repositories():
            hub = Hub(store, repo, settings.home / "arena" / "pushed", level)
            self._pushers.append(Pusher(hub, settings.push_minutes, self._told).start())

    def stop(self) -> None:
        """Returns when all that was said so far is on the Hub, or was refused by it."""
        for pusher in self._pushers:
            pusher.stop()

    def _repositories(self) -> list[tuple[str, Level]]:
        settings = self._services.settings
        wanted: list[tuple[str | None, Level]] = [
            (settings.push_votes, "publish"),
            (settings.push_backup, "everything"),
        ]
        return [(repo, level) for repo, level in wanted if repo]
