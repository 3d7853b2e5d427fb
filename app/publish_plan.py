"""What publishing a Space would do, found out without changing anything."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

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
BACKUP, VOTES = "WAVALIGN_PUSH_BACKUP", "WAVALIGN_PUSH_VOTES"
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PublishError(ValueError):
    """What cannot be published as it was asked for; the message is one sentence."""


@dataclass(frozen=True)
class Wish:
    """What the host asked for. None leaves what is there as it is, and takes the default of what is new."""

    space: str
    hardware: str | None = None
    sleep: int | None = None
    private: bool | None = None
    backup: str | None = None
    no_backup: bool = False
    votes: str | None = None
    bucket: str | None = None
    secrets: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class Now:
    """A Space as the Hub has it. ``sleep`` in seconds of no visits; None where none is set."""

    private: bool = False
    hardware: str | None = None
    sleep: int | None = None
    bucket: str | None = None
    secrets: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What is there already, and what will be done. Values of ``secrets`` are in no ``repr``."""

    wish: Wish
    now: Now | None
    """None where there is no such Space."""
    files: tuple[str, ...]
    megabytes: float
    backup: str | None
    """Where all votes go from now on."""
    variables: Mapping[str, str]
    """Those that are set anew."""
    dropped: tuple[str, ...]
    """Variables that are deleted."""
    secrets: Mapping[str, str] = field(repr=False)
    made: frozenset[str] = frozenset()
    """Secrets that are made now."""
    new_datasets: Mapping[str, bool] = field(default_factory=dict)
    """USER/NAME -> whether it is private."""

    @property
    def hardware(self) -> str | None:
        """What must be asked for; None where it is so already."""
        return _asked(self.wish.hardware, self.now and self.now.hardware)

    @property
    def sleep(self) -> int | None:
        """Seconds that must be set; None where it is so already."""
        return _asked(self.wish.sleep, self.now and self.now.sleep)

    @property
    def private(self) -> bool | None:
        """What an existing Space must become; None where it is so already."""
        return _asked(self.wish.private, self.now.private) if self.now else None

    @property
    def bucket(self) -> str | None:
        """What must be mounted; None where it is so already."""
        return _asked(self.wish.bucket, self.now and self.now.bucket)

    def lines(self) -> list[str]:
        wish = self.wish
        made = f"made, {'private' if wish.private else 'public'}"
        lines = [f"Space {wish.space}: " + (made if self.now is None else "brought up to date")]
        if self.private is not None:
            lines.append("  seen by its owners only from now on" if self.private else "  seen by everybody from now on")
        lines.append(f"  {len(self.files)} files, {self.megabytes:.1f} MB; files there that are not here are removed")
        if self.hardware:
            free = self.hardware in (SpaceHardware.CPU_BASIC.value, SpaceHardware.ZERO_A10G.value)
            price = "free" if free else "billed by the hour to its owner, see huggingface.co/pricing"
            lines.append(f"  hardware {self.hardware} ({price})")
        if self.sleep is not None:
            lines.append("  never sleeps" if self.sleep < 0 else f"  sleeps after {self.sleep} seconds of no visits")
        if self.bucket:
            lines.append(f"  the bucket {self.bucket} mounted at /data")
        for name, value in self.variables.items():
            lines.append(f"  variable {name}={value}")
        for name in self.dropped:
            lines.append(f"  variable {name} deleted")
        for name in self.secrets:
            where = "made now" if name in self.made else "from your environment"
            lines.append(f"  secret {name} ({where}, not shown)")
        for repo, private in self.new_datasets.items():
            lines.append(f"Dataset {repo}: made, {'private' if private else 'public'}")
        before = self.now.variables.get(BACKUP) if self.now else None
        if self.backup:
            still = "still " if self.backup == before else ""
            lines.append(f"Votes are {still}copied to {self.backup} and come back from there after a restart.")
        else:
            lines.append("No backup: what is said there and not published is lost when the Space restarts.")
        if before and self.backup != before:
            lines.append(f"What was copied to {before} stays there, and comes back no more.")
        return lines


def planned(wish: Wish, api: HfApi, environment: Mapping[str, str], root: Path = ROOT) -> Plan:
    """Looks at the Hub and at the files here.

    Raises:
        PublishError: one sentence, when something does not fit.
    """
    for what in filter(None, (wish.space, wish.backup, wish.votes, wish.bucket)):
        if not _REPO.fullmatch(what):
            raise PublishError(f"{what!r} is not of the form USER/NAME.")
    now = _space(wish.space, api)
    there = now.variables if now else {}
    # A Space without a disk begins again from its backup: it changes only when the host says so.
    backup = None if wish.no_backup else wish.backup or there.get(BACKUP) or f"{wish.space}-votes"
    votes = wish.votes or there.get(VOTES) or None
    if backup and backup == votes:
        raise PublishError("The private backup and the public votes need two datasets.")
    _check_sleep(wish, now)
    variables = dict(_variable(text) for text in wish.variables)
    for name, option in ((BACKUP, "--backup or --no-backup"), (VOTES, "--votes")):
        if name in variables:
            raise PublishError(f"Use {option} instead of --variable {name}.")
    new: dict[str, bool] = {}
    for repo, name, private in (
        (backup, BACKUP, True),
        (votes, VOTES, False),
    ):
        if repo:
            variables[name] = repo
            is_private = _dataset(repo, api)
            if is_private is None:
                new[repo] = private
            elif private and not is_private:
                raise PublishError(f"{repo} is public: a backup of everything goes to a private dataset only.")
    values, made = _secrets(wish, backup or votes, now.secrets if now else frozenset(), environment)
    if clash := sorted(values.keys() & (variables.keys() | there.keys())):
        raise PublishError(f"{clash[0]} cannot be both a secret and a variable.")
    files = shipped(root)
    if "app.py" not in files:
        raise PublishError(f"{root} is not a checkout of this program: there is no app.py.")
    megabytes = sum((root / name).stat().st_size for name in files) / 1e6
    changed = {name: value for name, value in variables.items() if there.get(name) != value}
    dropped = (BACKUP,) if backup is None and BACKUP in there else ()
    return Plan(wish, now, files, megabytes, backup, changed, dropped, values, made, new)


def shipped(root: Path) -> tuple[str, ...]:
    """Paths below ``root`` of what a Space runs, sorted."""
    names = (path.relative_to(root).as_posix() for pattern in SHIPPED for path in _below(root, pattern))
    return tuple(sorted(name for name in set(names) if not _matches(name, LEFT_OUT)))


def _below(root: Path, pattern: str) -> Iterator[Path]:
    """Files of one of ``SHIPPED``. The rest of a checkout, where a virtual environment may lie, is not walked."""
    top = root / pattern.removesuffix("/**")
    return (path for path in (top.rglob("*") if pattern.endswith("/**") else (top,)) if path.is_file())


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _space(repo: str, api: HfApi) -> Now | None:
    """None where there is none."""
    try:
        private = bool(api.repo_info(repo, repo_type="space").private)
    except RepositoryNotFoundError:
        return None
    runtime = api.get_space_runtime(repo)
    hardware = runtime.requested_hardware or runtime.hardware
    buckets = [each.source for each in runtime.volumes or () if (each.type, each.mount_path) == ("bucket", "/data")]
    return Now(
        private,
        None if hardware is None else str(getattr(hardware, "value", hardware)),
        runtime.sleep_time,
        buckets[0] if buckets else None,
        frozenset(api.get_space_secrets(repo)),
        {name: each.value for name, each in api.get_space_variables(repo).items()},
    )


def _check_sleep(wish: Wish, now: Now | None) -> None:
    hardware = wish.hardware or (now.hardware if now else SpaceHardware.CPU_BASIC.value)
    if wish.sleep is not None and hardware == SpaceHardware.CPU_BASIC.value:
        raise PublishError(f"--sleep is for paid hardware: {hardware} always sleeps after 48 hours of no visits.")


def _asked(wanted: Any, now: Any) -> Any:
    """None where nothing is wanted, or it is so already."""
    return None if wanted == now else wanted


def _dataset(repo: str, api: HfApi) -> bool | None:
    """Whether it is private; None where there is none."""
    try:
        return bool(api.repo_info(repo, repo_type="dataset").private)
    except RepositoryNotFoundError:
        return None


def _secrets(
    wish: Wish, dataset: str | None, there: frozenset[str], environment: Mapping[str, str]
) -> tuple[dict[str, str], frozenset[str]]:
    values: dict[str, str] = {}
    for name in wish.secrets:
        if not _NAME.fullmatch(name):
            raise PublishError(f"{name!r} is not the name of an environment variable; give the name, not the value.")
        if not environment.get(name):
            raise PublishError(f"{name} is not set in your environment.")
        values[name] = environment[name]
    if dataset and TOKEN not in values and TOKEN not in there:
        if not environment.get(TOKEN):
            raise PublishError(
                f"The Space needs a token that may write to {dataset}: make a fine-grained one at "
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
