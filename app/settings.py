"""What the host of the app can choose, all by environment variables, with the defaults."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.place import Place, PlaceError

NAME = "WavAlign Workbench"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REPOSITORY = Path(__file__).resolve().parent.parent


class SettingsError(ValueError):
    """A variable that cannot be used; the message names it."""


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for. Seconds, characters, people."""

    turn_seconds: float = 30.0
    shortest_turn_seconds: float = 0.2
    typed_characters: int = 1000
    reply_seconds: float = 12.0
    waiting: int = 32
    """How many requests may wait; the next one is told to come back."""
    waiting_of_address: int = 8
    """How many places in the line one network address may have, which may be a classroom's."""
    at_once: int = 2
    """How many conversations are answered side by side."""
    upload_megabytes: int = 30
    """Of one file: half a minute of speech, whatever its rate and format."""
    uploads_gigabytes: float = 2.0
    """Of all files that visitors have uploaded and that are not swept yet."""
    recordings_hours: float = 2.0
    """How long a visitor's audio is kept for the page to play."""


@dataclass(frozen=True)
class Settings:
    """``home`` holds what the app writes, ``assets`` what is shipped. ``port`` None takes the first free one."""

    home: Path
    assets: Path
    port: int | None = None
    preload: bool = True
    database: str | None = None
    """Of battles and votes: a ``postgresql://`` or ``sqlite:///`` URL; None is a SQLite file in ``home``."""
    secret: str | None = None
    """Signs raters' ids; None: a file in ``home``, made once."""
    host_token: str | None = field(default=None, repr=False)
    """Makes a browser the host's, where the app is reached from other machines; None: made at the start, or no need."""
    push_votes: str | None = None
    """USER/NAME of the dataset repository to which what raters allow to be published is pushed while the app runs."""
    push_backup: str | None = None
    """USER/NAME of the private dataset repository to which all that may be used is pushed while the app runs."""
    push_minutes: float = 15.0
    limits: Limits = Limits()
    place: Place = field(default_factory=Place)
    """What the host gives, and what it does not."""
    notes: tuple[str, ...] = ()
    """What the host should read when the app starts, a sentence each."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Reads WAVALIGN_HOME, WAVALIGN_ASSETS, WAVALIGN_PORT, WAVALIGN_PRELOAD (0 loads on first use),
        WAVALIGN_DATABASE, WAVALIGN_SECRET (at least 16 characters; one for all replicas, or for a lasting home),
        WAVALIGN_HOST_TOKEN (as long),
        WAVALIGN_PUSH_VOTES and WAVALIGN_PUSH_BACKUP (USER/NAME) and WAVALIGN_PUSH_MINUTES; and what ``Place`` reads.

        Raises:
            SettingsError: when the port is not one, the secret or the token is short, a repository has no such name,
                or nothing can be written.
        """
        try:
            place = Place.from_environment(environment)
            home, note = place.home(environment)
        except PlaceError as error:
            raise SettingsError(str(error)) from error
        secret = environment.get("WAVALIGN_SECRET") or None
        if secret is not None and len(secret) < 16:
            raise SettingsError("WAVALIGN_SECRET must have at least 16 characters.")
        token = environment.get("WAVALIGN_HOST_TOKEN") or None
        if token is not None and len(token) < 16:
            raise SettingsError("WAVALIGN_HOST_TOKEN must have at least 16 characters.")
        return cls(
            home=home,
            assets=Path(environment.get("WAVALIGN_ASSETS") or _REPOSITORY / "assets").expanduser().resolve(),
            port=place.port,
            preload=environment.get("WAVALIGN_PRELOAD", "1") != "0",
            database=environment.get("WAVALIGN_DATABASE") or None,
            secret=secret,
            host_token=token,
            push_votes=_repository("WAVALIGN_PUSH_VOTES", environment),
            push_backup=_repository("WAVALIGN_PUSH_BACKUP", environment),
            push_minutes=_minutes("WAVALIGN_PUSH_MINUTES", environment, cls.push_minutes),
            place=place,
            notes=(note,) if note else (),
        )


def _repository(name: str, environment: Mapping[str, str]) -> str | None:
    repo = environment.get(name) or None
    if repo is not None and not _REPO.fullmatch(repo):
        raise SettingsError(f"{name} must be the USER/NAME of a dataset repository, got {repo!r}.")
    return repo


def _minutes(name: str, environment: Mapping[str, str], usual: float) -> float:
    text = environment.get(name)
    try:
        minutes = float(text) if text else usual
    except ValueError:
        minutes = math.nan
    if not 5 <= minutes <= 1440:  # not a number is neither
        raise SettingsError(f"{name} must be from 5 to 1440 minutes, got {text!r}.")
    return minutes


def root_path() -> str:
    """What stands before every address where a proxy serves the app below a path; empty, or without a last slash."""
    return os.environ.get("GRADIO_ROOT_PATH", "").rstrip("/")


PAGE_FILES = _REPOSITORY / "assets" / "app"
"""The page's own css and js: part of the program, wherever the checkpoints are."""
