"""The pages: one module each, with ``build(services)``. A new page is one module and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.pages import arena, checkpoints, evaluate, leaderboard, preferences, talk, train
from app.services import Services


@dataclass(frozen=True)
class Page:
    """``path`` is the address below the app's root; the first page's is empty."""

    title: str
    path: str
    build: Callable[[Services], None]


PAGES = (
    Page("Talk", "", talk.build),
    Page("Arena", "arena", arena.build),
    Page("Leaderboard", "leaderboard", leaderboard.build),
    Page("Preferences", "preferences", preferences.build),
    Page("Train", "train", train.build),
    Page("Evaluate", "evaluate", evaluate.build),
    Page("Checkpoints", "checkpoints", checkpoints.build),
)
