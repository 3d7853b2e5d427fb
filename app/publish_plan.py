"""What publishing a Space would do, found out without changing anything."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, SpaceHardware
from huggingface_hub.errors import RepositoryNotFoundError

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = (
    *("app.py", "README.md", "LICENSE", "requirements.txt", "packages.txt", "pyproject.toml", "Dockerfile"),
    *("app/**", "wavalign/**", "evaluation/**", "assets/**", "docs/**"),
)
"""What runs; tests and tools stay here."""
LEFT_OUT = ("*.pyc", "*/__pycache__/*", "*/.*", ".*", "*.part", "*.log")
TOKEN, SIGNING = "HF_TOKEN", "WAVALIGN_SECRET"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PublishError(ValueError):
    """What cannot be published as it was asked for; the message is one sentence."""


@dataclass(frozen=True)
class Wish:
    """What the host asked for. ``hardware`` None leaves it as it is; ``backup`` None keeps no copies."""

    space: str
    hardware: str | None = None
    sleep: int | None = None
    private: bool = False
    backup: str | None = None
    votes: str | None = None
    bucket: str | None = None
    secrets: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What is there already, and what will be done. Values of ``secrets`` are in no ``repr``."""

    wish: Wish
    exists: bool
    hardware_now: str | None
    files: tuple[str, ...]
    megabytes: float
    variables: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)
    made: frozenset[str] = frozenset()
    """Secrets that are made now."""
    new_datasets: Mapping[str, bool] = field(default_factory=dict)
    """USER/NAME -> whether it is private."""

    @property
    def hardware(self) -> str | None:
        """What must be asked for; None where it is so already."""
        return self.wish.hardware if self.wish.hardware not in (None, self.hardware_now) else None

    def lines(self) -> list[str]:
        wish = self.wish
        seen = "private" if wish.private else "public"
        lines = [f"Space {wish.space}: " + ("brought up to date" if self.exists else f"made, {seen}")]
        lines.append(f"  {len(self.files)} files, {self.megabytes:.1f} MB; files there that are not here are removed")
        if self.hardware:
            free = self.hardware in (SpaceHardware.CPU_BASIC.value, SpaceHardware.ZERO_A10G.value)
            price = "free" if free else "billed by the hour to its owner, see huggingface.co/pricing"
            lines.append(f"  hardware {self.hardware} ({price})")
        if wish.bucket:
            lines.append(f"  the bucket {wish.bucket} mounted at /data")
        for name, value in self.variables.items():
            lines.append(f"  variable {name}={value}")
        for name in self.secrets:
            where = "made now" if name in self.made else "from your environment"
            lines.append(f"  secret {name} ({where}, not shown)")
        for repo, private in self.new_datasets.items():
            lines.append(f"Dataset {repo}: made, {'private' if private else 'public'}")
        if wish.backup:
            lines.append(f"Votes are copied to {wish.backup} and come back from there after a restart.")
        else:
            lines.append("Nothing is copied: what is said there is lost when the Space restarts.")
        return lines


def planned(wish: Wish, api: HfApi, environment: Mapping[str, str], root: Path = ROOT) -> Plan:
    """Looks at the Hub and at the files here.

    Raises:
        PublishError: one sentence, when something does not fit.
    """
    for what in filter(None, (wish.space, wish.backup, wish.votes, wish.bucket)):
        if not _REPO.fullmatch(what):
            raise PublishError(f"{what!r} is not of the form USER/NAME.")
    if wish.backup and wish.backup == wish.votes:
        raise PublishError("The private backup and the public votes need two datasets.")
    exists, hardware_now, there = _space(wish.space, api)
    variables = dict(_variable(text) for text in wish.variables)
    new: dict[str, bool] = {}
    for repo, name, private in (
        (wish.backup, "WAVALIGN_PUSH_BACKUP", True),
        (wish.votes, "WAVALIGN_PUSH_VOTES", False),
    ):
        if repo:
            variables[name] = repo
            is_private = _dataset(repo, api)
            if is_private is None:
                new[repo] = private
            elif private and not is_private:
                raise PublishError(f"{repo} is public: a backup of everything goes to a private dataset only.")
    values, made = _secrets(wish, there, environment)
    if clash := sorted(values.keys() & variables.keys()):
        raise PublishError(f"{clash[0]} cannot be both a secret and a variable.")
    files = shipped(root)
    if "app.py" not in files:
        raise PublishError(f"{root} is not a checkout of this program: there is no app.py.")
    megabytes = sum((root / name).stat().st_size for name in files) / 1e6
    return Plan(wish, exists, hardware_now, files, megabytes, variables, values, made, new)


def shipped(root: Path) -> tuple[str, ...]:
    """Paths below ``root`` of what a Space runs, sorted."""
    names = (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())
    return tuple(name for name in names if _matches(name, SHIPPED) and not _matches(name, LEFT_OUT))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _space(repo: str, api: HfApi) -> tuple[bool, str | None, frozenset[str]]:
    """Whether it exists, its hardware, and the names of its secrets."""
    try:
        api.repo_info(repo, repo_type="space")
    except RepositoryNotFoundError:
        return False, None, frozenset()
    runtime = api.get_space_runtime(repo)
    now = runtime.requested_hardware or runtime.hardware
    return True, None if now is None else str(getattr(now, "value", now)), frozenset(api.get_space_secrets(repo))


def _dataset(repo: str, api: HfApi) -> bool | None:
    """Whether it is private; None where there is none."""
    try:
        return bool(api.repo_info(repo, repo_type="dataset").private)
    except RepositoryNotFoundError:
        return None


def _secrets(
    wish: Wish, there: frozenset[str], environment: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    values: dict[str, str] = {}
    for name in wish.secrets:
        if not _NAME.fullmatch(name):
            raise PublishError(f"{name!r} is not the name of an environment variable; give the name, not the value.")
        if not environment.get(name):
            raise PublishError(f"{name} is not set in your environment.")
        values[name] = environment[name]
    if (wish.backup or wish.votes) and TOKEN not in values and TOKEN not in there:
        if not environment.get(TOKEN):
            raise PublishError(
                f"The Space needs a token that may write to {wish.backup or wish.votes}: make a fine-grained one at "
                f"huggingface.co/settings/tokens and set {TOKEN}, or use --no-backup."
            )
        values[TOKEN] = environment[TOKEN]
    made: set[str] = set()
    if SIGNING not in values and SIGNING not in there:
        made = set() if environment.get(SIGNING) else {SIGNING}
        values[SIGNING] = environment.get(SIGNING) or secrets.token_urlsafe(32)
    return values, frozenset(made)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise PublishError(f"{text!r} is not of the form NAME=VALUE.")
    return name, value
