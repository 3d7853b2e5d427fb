"""Reward models trained from the votes of this arena, one at a time, kept in the home folder. Knows no page."""

from __future__ import annotations

import queue
import re
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.battles import Rules
from app.export import ExportError, export
from app.export_rows import Selection
from app.store import Store

if TYPE_CHECKING:  # torch takes seconds to import: the page is up before it is
    from wavalign.rewards.preference_model import PreferenceModel

_NO_VOTES = {
    "human": "There is no vote of a person yet that may be used: vote in the Arena first.",
    "simulated": "There is no vote of a simulated rater: python -m app.simulate_votes casts some.",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RewardModelError(ValueError):
    """What cannot be trained; the message is one sentence."""


@dataclass(frozen=True)
class Progress:
    """``share`` of ``what`` is done, 0..1."""

    what: str
    share: float


@dataclass
class RewardModels:
    """``clock`` as the votes' clock: only votes that can no longer be undone are learned from."""

    store: Store
    home: Path
    assets: Path
    rules: Rules = field(default_factory=Rules)
    _busy: threading.Lock = field(default_factory=threading.Lock, init=False)

    def names(self) -> list[str]:
        """The models there are, the newest first."""
        from wavalign.rewards.preference_model import FACTS, FOLDER

        found = (self.home / FOLDER).glob(f"*/{FACTS}")
        return [path.parent.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]

    def load(self, name: str) -> PreferenceModel:
        """Raises:
        RewardError: when it is missing or broken.
        """
        from wavalign.rewards.preference_model import FOLDER, PreferenceModel

        return PreferenceModel.load(self.home / FOLDER / name)

    def train(
        self, name: object, source: Literal["human", "simulated"], base: str, stop: threading.Event | None = None
    ) -> Generator[Progress, None, PreferenceModel]:
        """Trains and keeps a model; closing the generator stops it, and nothing is kept.

        Raises:
            RewardModelError: a name that cannot be used, no votes, another one under way, or too little to learn from.
        """
        from wavalign.models.protocol import CheckpointError
        from wavalign.rewards.preference_model import FOLDER
        from wavalign.rewards.protocol import RewardError
        from wavalign.rewards.train_preference import train

        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RewardModelError("A name has letters, digits, dots and dashes, and starts with a letter or digit.")
        folder = self.home / FOLDER / name
        if folder.exists():
            raise RewardModelError(f'There is a reward model "{name}" already; choose another name.')
        if not self._busy.acquire(blocking=False):
            raise RewardModelError("A reward model is being trained already. Wait for it.")
        stop = stop or threading.Event()
        told: queue.SimpleQueue[Progress | PreferenceModel | Exception] = queue.SimpleQueue()

        def work() -> None:
            try:
                with tempfile.TemporaryDirectory(prefix="votes-") as scratch:
                    place = Path(scratch) / "export"
                    settled = time.time() - self.rules.undo - 1
                    export(self.store, place, Selection(source=source, until=settled), ("battles",))
                    model = train(
                        place, self.assets, self.home, base, told=lambda *of: told.put(Progress(*of)), stop=stop
                    )
                if not stop.is_set():
                    model.save(folder)
                told.put(model)
            except Exception as error:  # goes to whoever reads the queue
                told.put(error)
            finally:
                self._busy.release()

        threading.Thread(target=work, name="reward-model", daemon=True).start()
        try:
            while True:
                news = told.get()
                if isinstance(news, Progress):
                    yield news
                elif isinstance(news, ExportError):
                    raise RewardModelError(_NO_VOTES[source]) from news
                elif isinstance(news, RewardError | CheckpointError):
                    raise RewardModelError(str(news)) from news
                elif isinstance(news, Exception):
                    raise news
                else:
                    return news
        finally:
            stop.set()
