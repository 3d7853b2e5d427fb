"""The folder that browsers upload into: private to this user, with nothing of the machine in its name."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path

HOURS = 2.0
UNFINISHED_MINUTES = 10.0
"""How long a file that no upload has completed is left: what a request without an end leaves behind."""
SWEEP_SECONDS = 300.0


def private_folder() -> Path:
    """A folder that only this user reads; what an earlier process left there too long ago is deleted."""
    folder = Path(tempfile.gettempdir()) / f"wavalign-uploads-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if found.st_uid == os.getuid() and not folder.is_symlink():
            folder.chmod(0o700)
            sweep(folder)
            return folder
    except OSError:
        pass  # somebody else's: another one, under a name nobody can take first
    return Path(tempfile.mkdtemp(prefix="wavalign-uploads-"))


def sweep(folder: Path, keep: Collection[str] = (), now: float | None = None) -> None:
    """Deletes what is kept too long, and what no upload has completed: the framework's files named tmp..., which lie
    in the folder itself. A file in ``keep`` stays."""
    now = time.time() if now is None else now
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            is_unfinished = path.parent == folder and name.startswith("tmp")
            most = 60 * UNFINISHED_MINUTES if is_unfinished else 3600 * HOURS
            try:
                found = path.lstat()
                age = now - max(found.st_mtime, found.st_ctime)  # a copy has the first from what it is a copy of
                if age > most and str(path) not in keep:
                    path.unlink()
                    if path.parent != folder:
                        path.parent.rmdir()
            except OSError:  # not empty, or another process was faster
                continue


def keep_swept(folder: Path, keep: Collection[str]) -> None:
    """Sweeps every few minutes for as long as the process lives."""

    def sweeping() -> None:
        while True:
            time.sleep(SWEEP_SECONDS)
            sweep(folder, keep)

    threading.Thread(target=sweeping, name="uploads", daemon=True).start()


class Shares:
    """Bytes that each network address has in the folder, those on their way included: one address takes ``most`` at
    the most. What was kept counts until it is swept. ``hashed`` makes a key of an address, which is not kept as it is.
    """

    def __init__(self, hashed: Callable[[str], str], most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._hashed = hashed
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[int, tuple[str, float, int]] = OrderedDict()
        self._next = 0

    def begin(self, address: str) -> int:
        """A number for an upload of which nothing has come yet."""
        with self._lock:
            self._next += 1
            self._held[self._next] = (self._hashed(address), self._clock(), 0)
            return self._next

    def fits(self, address: str) -> bool:
        """Whether this address may still upload anything."""
        with self._lock:
            return self._taken(self._hashed(address)) < self._most

    def add(self, upload: int, size: int) -> bool:
        """Counts ``size`` more bytes; False, and nothing is counted, where they are more than the share."""
        with self._lock:
            key, since, held = self._held.get(upload, ("", 0.0, 0))
            if self._taken(key) + size > self._most:
                return False
            self._held[upload] = (key, since, held + size)
            return True

    def drop(self, upload: int) -> None:
        """Nothing of this upload was kept."""
        with self._lock:
            self._held.pop(upload, None)

    def _taken(self, key: str) -> int:
        swept = self._clock() - 3600 * HOURS - SWEEP_SECONDS
        while self._held and next(iter(self._held.values()))[1] < swept:
            self._held.popitem(last=False)
        return sum(size for owner, _, size in self._held.values() if owner == key)
