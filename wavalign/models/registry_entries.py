"""``checkpoints.yaml``: checkpoints that are not simply folders in place: from the hub, from elsewhere, or remote.

    checkpoints:
      qwen-omni-3b:
        source: Qwen/Qwen2.5-Omni-3B
        revision: f75b40e3da2003cdd6e1829b1f420ca70797c34e
        dtype: bfloat16
      qwen-omni-tuned:
        base: qwen-omni-3b
        adapter: /data/runs/first/adapter
      gpt-audio:
        remote: {url: "https://api.openai.com/v1", model: gpt-audio, key_env: OPENAI_API_KEY}

What ships comes first; the host's own file, in the app's home, adds to it and is the one that the page writes.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from wavalign.models.protocol import CheckpointError
from wavalign.models.remote_description import RemoteDescription

ENTRIES_FILE = "checkpoints.yaml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_RULE = (
    "A name has letters, digits, dots, dashes and underscores, up to 64 of them, and starts with a letter or digit."
)
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,2})?")


class Entry(BaseModel):
    """One checkpoint. Exactly one of ``source`` (a base), ``adapter`` with ``base``, and ``remote`` says what it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str | None = None
    """A base: a hub id, or a folder's absolute path."""
    revision: str | None = None
    """The commit of a hub id, all 40 hex digits, so that the weights cannot change by themselves."""
    base: str | None = None
    """The checkpoint that ``adapter`` is for, by its name here."""
    adapter: str | None = None
    """A PEFT adapter: a hub id, or a folder's absolute path."""
    adapter_revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: float32 on a CPU, as stored on a GPU."""
    device: str = "auto"
    """auto (a GPU when there is one), cpu, mps, cuda or cuda:N."""
    remote: RemoteDescription | None = None
    layout: str | None = None
    """As it was detected when it was added, for a base that is not downloaded yet."""
    arena: bool = True
    """Whether it meets others in blind battles."""

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not _DEVICE.fullmatch(device):
            raise ValueError(f"device must be auto, cpu, mps, cuda or cuda:N, got {device!r}")
        return device

    @model_validator(mode="after")
    def _one_kind(self) -> Entry:
        kinds = [self.source is not None, self.adapter is not None, self.remote is not None]
        if sum(kinds) != 1:
            raise ValueError("give exactly one of source, adapter (with its base) and remote")
        if (self.adapter is None) != (self.base is None):
            raise ValueError("adapter and base go together")
        for place, revision in ((self.source, self.revision), (self.adapter, self.adapter_revision)):
            if place is None:
                if revision is not None:
                    raise ValueError("a revision is of a hub id")
            elif is_hub_id(place):
                if revision is None or not COMMIT.fullmatch(revision):
                    raise ValueError(f"{place} needs its revision as a commit of 40 hex digits")
            elif not Path(place).is_absolute():
                raise ValueError(f"{place!r} is neither a hub id (owner/name) nor an absolute path")
        return self


def is_hub_id(place: str) -> bool:
    return HUB_ID.fullmatch(place) is not None


class Entries:
    """The entries of the files there are. Reading follows the files as they change; only ``home``'s is written."""

    def __init__(self, assets: Path, home: Path | None) -> None:
        self._shipped = assets / ENTRIES_FILE
        self._own = home / ENTRIES_FILE if home else None
        self._known: dict[Path, tuple[tuple[int, int], dict[str, Entry]]] = {}
        self._lock = threading.Lock()

    def all(self) -> dict[str, Entry]:
        """By name; the host's own entry stands before a shipped one of the same name.

        Raises:
            CheckpointError: one sentence about the first thing that is wrong in a file.
        """
        with self._lock:
            found = self._read(self._shipped)
            return {**found, **(self._read(self._own) if self._own else {})}

    def own(self) -> dict[str, Entry]:
        """Those that the page added, which it may remove."""
        with self._lock:
            return dict(self._read(self._own)) if self._own else {}

    def add(self, name: str, entry: Entry) -> None:
        """Writes the host's file anew, whole or not at all.

        Raises:
            CheckpointError: when the name does not fit or is taken, or the file cannot be written.
        """
        if not NAME.fullmatch(name):
            raise CheckpointError(NAME_RULE)
        with self._lock:
            own = self._read(self._own) if self._own else {}
            if name in own or name in self._read(self._shipped):
                raise CheckpointError(f'There is a checkpoint "{name}" already. Choose another name.')
            self._write({**own, name: entry})

    def remove(self, name: str) -> None:
        """Raises:
        CheckpointError: when it is not one of the host's own.
        """
        with self._lock:
            own = dict(self._read(self._own)) if self._own else {}
            if own.pop(name, None) is None:
                raise CheckpointError(f'"{name}" is not an entry of {ENTRIES_FILE} in the app\'s home.')
            self._write(own)

    def _read(self, path: Path) -> dict[str, Entry]:
        try:
            status = path.stat()
        except OSError:
            return {}
        stamp = (status.st_mtime_ns, status.st_size)
        if path not in self._known or self._known[path][0] != stamp:
            self._known[path] = (stamp, parsed(path))
        return self._known[path][1]

    def _write(self, entries: Mapping[str, Entry]) -> None:
        if self._own is None:
            raise CheckpointError("There is no home to keep checkpoints in: set WAVALIGN_HOME.")
        plain = {name: each.model_dump(mode="json", exclude_defaults=True) for name, each in sorted(entries.items())}
        text = yaml.safe_dump({"checkpoints": plain}, sort_keys=False, allow_unicode=True)
        draft = self._own.with_name(f".{self._own.name}.{secrets.token_hex(4)}")
        try:
            self._own.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, self._own)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise CheckpointError(f"{self._own} could not be written: {error.strerror or error}.") from error
        self._known.pop(self._own, None)


def parsed(path: Path) -> dict[str, Entry]:
    """What a file says.

    Raises:
        CheckpointError: one sentence that names the file, the entry and the field.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{path} is not valid YAML. Mend it, or move it away.") from error
    if data is None:
        return {}
    if not isinstance(data, dict) or set(data) - {"checkpoints"}:
        raise CheckpointError(f'{path} must hold one mapping, "checkpoints". Mend it, or move it away.')
    listed = data.get("checkpoints") or {}
    if not isinstance(listed, dict):
        raise CheckpointError(f'"checkpoints" in {path} must be a mapping from names to entries.')
    found = {}
    for name, entry in listed.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise CheckpointError(f"{path}: {str(name)[:80]!r} is not a name. {NAME_RULE}")
        found[name] = entry_of(entry, f'{path}, "{name}"')
    return found


def entry_of(data: Any, where: str) -> Entry:
    """``data`` as an entry.

    Raises:
        CheckpointError: one sentence that begins with ``where`` and names the field.
    """
    try:
        return Entry.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise CheckpointError(f"{where}: {f'{field}: ' if field else ''}{said}.") from None


def may_run_code(source: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether Python files that come with ``source`` (a hub id or folder) may run here.

    The host says so before the start, and nobody through a page: WAVALIGN_TRUST_REMOTE_CODE lists hub ids and folders,
    separated by commas.
    """
    return source.rstrip("/") in trusted_sources(environment)


def trusted_sources(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """The hub ids and folders that the host named."""
    listed = (each.strip().rstrip("/") for each in environment.get("WAVALIGN_TRUST_REMOTE_CODE", "").split(","))
    return frozenset(each for each in listed if each)
