"""Where the app runs, and all that differs by it: decided here, once, from the environment and the file system.

Three kinds of host: ``local`` (a laptop, a server, a container), ``space`` (a Hugging Face Space with a CPU or a GPU of
its own) and ``zerogpu`` (a Space that borrows a GPU for each call). Nothing else reads a Space's variables.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the store takes a moment to import, and most hosts have no mount to look at
    from app.store.mounts import Mount

Kind = Literal["local", "space", "zerogpu"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
FOLDER = "wavalign-workbench"
SPACE_DISK = Path("/data")
"""Where a Space's persistent storage is mounted."""
SPACE_PORT = 7860
"""The one port that a Space shows to the world."""
LOOPBACK = "127.0.0.1"
CALL_SECONDS = 60
"""How long one call may hold a borrowed GPU: what ZeroGPU gives a call that asks for nothing."""


class PlaceError(ValueError):
    """The host cannot be used as it is; the message is one sentence."""


@dataclass(frozen=True)
class Place:
    """What the host gives. The defaults are those of a laptop."""

    kind: Kind = "local"
    space: str | None = None
    """OWNER/NAME of the Space."""
    owner: str | None = None
    """The account or organisation that the Space belongs to."""
    owners: frozenset[str] = frozenset()
    """Accounts that are hosts here: the Space's owner and WAVALIGN_OWNERS. Empty where there is no login."""
    hosts: tuple[str, ...] = ()
    """Host names under which a browser reaches the Space."""
    has_login: bool = False
    """Whether people can sign in with their Hugging Face account."""
    persistent: Path | None = None
    """The mount that outlives a restart, a local disk where SQLite and training runs can live."""
    bucket: Path | None = None
    """A mount that outlives a restart but holds whole files only: SQLite would lose data there."""
    listen: str = LOOPBACK
    port: int | None = None
    """None takes the first free one."""
    proxies: tuple[Network, ...] = ()
    """Whose word counts on whom they speak for (X-Forwarded-For), besides a proxy on this machine."""
    slice_seconds: int = CALL_SECONDS
    """How long one slice of training may hold a borrowed GPU."""
    reply_seconds: int = CALL_SECONDS
    """How long the replies to one question may hold it."""
    ends_with_app: bool = False
    """Whether every process here ends when the app does: on a Space, and in a container."""

    @property
    def is_space(self) -> bool:
        return self.kind != "local"

    @property
    def borrows_gpu(self) -> bool:
        """Whether CUDA exists only inside a function decorated with ``spaces.GPU``."""
        return self.kind == "zerogpu"

    @property
    def beyond_loopback(self) -> bool:
        """Whether other machines can reach the app."""
        return self.is_space or not _is_loopback(self.listen)

    @property
    def forgets(self) -> bool:
        """Whether what is written is lost when the machine restarts."""
        return self.is_space and self.persistent is None

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] = os.environ,
        *,
        disk: Path = SPACE_DISK,
        mounts: Path | None = None,
        writable: Callable[[Path], bool] | None = None,
    ) -> Place:
        """Reads the variables that Hugging Face sets on a Space (SPACE_ID, SPACE_AUTHOR_NAME, SPACE_HOST,
        SPACES_ZERO_GPU, OAUTH_CLIENT_ID and its companions) and the host's own: WAVALIGN_LISTEN (else
        GRADIO_SERVER_NAME), WAVALIGN_PORT (else GRADIO_SERVER_PORT), WAVALIGN_OWNERS, WAVALIGN_PROXIES
        (addresses and networks, separated by commas), WAVALIGN_SLICE_SECONDS and WAVALIGN_REPLY_SECONDS (of a borrowed
        GPU), WAVALIGN_CONTAINER (1 in one).

        Raises:
            PlaceError: when an address, a port, a proxy or a number of seconds cannot be used.
        """
        space = environment.get("SPACE_ID") or None
        owner = (environment.get("SPACE_AUTHOR_NAME") or space.partition("/")[0]) if space else None
        named = {name.strip() for name in environment.get("WAVALIGN_OWNERS", "").split(",")} - {""}
        kind: Kind = "local"
        if space:
            kind = "zerogpu" if _is_set(environment.get("SPACES_ZERO_GPU")) else "space"
        mount = _mounted(disk, mounts) if space else None
        usable = mount is not None and (writable or can_write)(disk)
        return cls(
            kind=kind,
            space=space,
            owner=owner,
            owners=frozenset(named | ({owner} if owner else set())),
            hosts=tuple(each.strip() for each in environment.get("SPACE_HOST", "").split(",") if each.strip()),
            has_login=bool(space) and all(environment.get(name) for name in _LOGIN),
            persistent=disk if usable and not mount.is_network else None,
            bucket=disk if usable and mount.is_network else None,
            listen=_address(environment, "0.0.0.0" if space else LOOPBACK),
            port=_port(environment, SPACE_PORT if space else None),
            proxies=_proxies(environment),
            slice_seconds=_seconds("WAVALIGN_SLICE_SECONDS", environment),
            reply_seconds=_seconds("WAVALIGN_REPLY_SECONDS", environment),
            ends_with_app=bool(space) or _is_set(environment.get("WAVALIGN_CONTAINER")),
        )

    def home(
        self,
        environment: Mapping[str, str] = os.environ,
        writable: Callable[[Path], bool] | None = None,
    ) -> tuple[Path, str | None]:
        """Where the app writes, and a sentence where that is not where one would look for it.

        WAVALIGN_HOME, else the mount that outlives a restart, else the user's cache, else a temporary folder.

        Raises:
            PlaceError: when nothing can be written there.
        """
        writable = writable or can_write
        named = environment.get("WAVALIGN_HOME")
        if named:
            home = Path(named).expanduser().resolve()
            if not writable(home):
                raise PlaceError(f"Nothing can be written in WAVALIGN_HOME, {home}: make it writable, or name another.")
            return home, None
        if self.persistent is not None:
            return self.persistent / FOLDER, None
        usual = _cache(environment)
        if usual is not None and writable(usual):
            return usual, None
        spare = Path(environment.get("TMPDIR") or tempfile.gettempdir()) / f"{FOLDER}-{os.getuid()}"
        if not writable(spare):
            raise PlaceError(
                f"Nothing can be written in {usual or 'a home folder, there is none,'} nor in {spare.parent}: "
                "set WAVALIGN_HOME to a folder that can be written."
            )
        why = f"{usual} cannot be written" if usual else "There is no home folder"
        return spare, f"{why}, so what is kept goes to {spare}, which the next restart may empty: set WAVALIGN_HOME."


_LOGIN = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL")


def can_write(folder: Path) -> bool:
    """Whether files can be made there; makes the folder. Permissions alone do not tell: a disk can be read-only."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError:
        return False
    return True


def _cache(environment: Mapping[str, str]) -> Path | None:
    try:
        home = Path(environment["HOME"]) if environment.get("HOME") else Path.home()
    except RuntimeError:  # a container's user that no list of users knows
        return None
    return home / ".cache" / FOLDER


def _mounted(disk: Path, mounts: Path | None) -> Mount | None:
    """The mount at ``disk``; a plain folder of that name is part of the image and outlives nothing."""
    from app.store.mounts import MOUNTS, mount_of

    mount = mount_of(disk, mounts or MOUNTS)
    return mount if mount is not None and mount.point == disk.resolve() else None


def _is_set(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "t", "true")


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name: whoever knows it may reach it
        return False


def _address(environment: Mapping[str, str], usual: str) -> str:
    name = "WAVALIGN_LISTEN" if environment.get("WAVALIGN_LISTEN") else "GRADIO_SERVER_NAME"
    address = (environment.get(name) or usual).strip()
    if not address or (any(sign in address for sign in " /:@") and not _is_address(address)):
        raise PlaceError(f"{name} must be an address to listen on, 0.0.0.0 for all, got {address!r}.")
    return address


def _proxies(environment: Mapping[str, str]) -> tuple[Network, ...]:
    found = []
    for each in environment.get("WAVALIGN_PROXIES", "").split(","):
        if not each.strip():
            continue
        try:
            found.append(ipaddress.ip_network(each.strip()))
        except ValueError:
            raise PlaceError(
                "WAVALIGN_PROXIES must be addresses or networks separated by commas, such as 10.0.0.5,10.1.0.0/16, got "
                f"{each.strip()!r}."
            ) from None
    return tuple(found)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(environment: Mapping[str, str], usual: int | None) -> int | None:
    port = environment.get("WAVALIGN_PORT") or environment.get("GRADIO_SERVER_PORT")
    if not port:
        return usual
    if not (port.isdecimal() and 0 < int(port) < 65536):
        raise PlaceError(f"WAVALIGN_PORT must be between 1 and 65535, got {port!r}.")
    return int(port)


def _seconds(name: str, environment: Mapping[str, str]) -> int:
    text = environment.get(name)
    if not text:
        return CALL_SECONDS
    if not (text.isdecimal() and 10 <= int(text) <= 3600):
        raise PlaceError(f"{name} must be from 10 to 3600 seconds, got {text!r}.")
    return int(text)
