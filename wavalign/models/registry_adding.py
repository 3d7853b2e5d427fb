"""Adding a checkpoint: looks at a hub id or a folder, tells what it is and what it takes, then lists it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wavalign.models import memory
from wavalign.models.description import LAYOUT_FILE
from wavalign.models.memory_estimate import Estimate, estimate, estimate_folder
from wavalign.models.protocol import CheckpointError
from wavalign.models.registry import ADAPTER_FILE, Registry
from wavalign.models.registry_code import may_run_code_in
from wavalign.models.registry_entries import COMMIT, Entry, entry_of, is_hub_id, may_run_code
from wavalign.models.registry_hints import hints
from wavalign.models.registry_layouts import REMOTE, brings_code, layout_of
from wavalign.models.registry_opening import device_of

GIVE_SOURCE = "Give a hub id (owner/name) or the absolute path of a folder."


@dataclass(frozen=True)
class Wish:
    """What is to be added. ``source``: a base or an adapter, a hub id or a folder; ``adapter``: one on that base."""

    source: str
    revision: str | None = None
    adapter: str | None = None
    adapter_revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    name: str | None = None
    arena: bool = True


@dataclass(frozen=True)
class Looked:
    """What was found, and the entries that adding it will write, the base's first."""

    name: str
    kind: str
    """base, adapter or remote"""
    layout: str
    entries: dict[str, Entry]
    facts: dict[str, str] = field(default_factory=dict)
    """For people: what was detected, by label."""
    estimate: Estimate | None = None
    download: int = 0
    free: int | None = None
    """Bytes that the chosen device has free now."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Place:
    """A folder or a repository as far as it tells what it is. ``folder`` None: it is not here yet."""

    source: str
    revision: str | None
    files: frozenset[str]
    config: dict[str, Any] | None
    adapter: dict[str, Any] | None
    described: dict[str, Any] | None
    folder: Path | None
    download: int = 0
    stored: Any = None


def look(registry: Registry, wish: Wish) -> Looked:
    """Reads headers and configs only; downloads nothing but those.

    Raises:
        CheckpointError: one sentence, when it is not there, not a checkpoint, or cannot be listed as wished.
    """
    place = _looked_up(wish.source, wish.revision)
    if place.adapter is not None:
        if wish.adapter:
            raise CheckpointError(f"{wish.source} is an adapter itself. Give its base, or leave the adapter empty.")
        base_name = _base_for(registry, place)
        return _adapter(registry, wish, place, base_name, {})
    looked = _base(registry, wish, place)
    if not wish.adapter:
        return looked
    upper = _looked_up(wish.adapter, wish.adapter_revision)
    if upper.adapter is None:
        raise CheckpointError(f"{wish.adapter} is not an adapter: it holds no {ADAPTER_FILE}.")
    known = _same_base(registry, next(iter(looked.entries.values())))
    base_name = known or _free_name(registry, place)
    entries = {} if known else {base_name: next(iter(looked.entries.values()))}
    both = _adapter(registry, wish, upper, base_name, entries)
    return replace(
        both,
        layout=looked.layout,
        facts={**looked.facts, **both.facts},
        estimate=looked.estimate,
        free=looked.free,
        download=looked.download + both.download,
        warnings=looked.warnings,
    )


def look_remote(registry: Registry, name: str | None, description: dict[str, Any], arena: bool) -> Looked:
    """A service; it is not asked anything.

    Raises:
        CheckpointError: one sentence that names the field.
    """
    entry = entry_of({"remote": description, "arena": arena}, "The service")
    remote = entry.remote
    chosen = name or _spelled(remote.model)
    _check_free(registry, chosen)
    facts = {"Service": remote.host, "Model": remote.model, "Kind": remote.spoken.words}
    facts["Key"] = f"from {remote.key_env}" if remote.key_env else "none is sent"
    warnings = [f"What visitors say to {chosen} is sent to {remote.host}."]
    try:
        from wavalign.models.remote_description import key_of

        key_of(remote)
    except CheckpointError as error:
        warnings.append(str(error))
    return Looked(chosen, REMOTE, REMOTE, {chosen: entry}, facts, warnings=tuple(warnings))


def add(registry: Registry, looked: Looked) -> None:
    """Lists what was looked at; all of it or nothing.

    Raises:
        CheckpointError: when a name is taken by now, or the file cannot be written.
    """
    added: list[str] = []
    try:
        for name, entry in looked.entries.items():
            _check_free(registry, name)
            registry.entries.add(name, entry)
            added.append(name)
    except CheckpointError:
        for name in added:
            registry.entries.remove(name)
        raise


def _looked_up(source: str, revision: str | None) -> _Place:
    source = source.strip()
    if not source:
        raise CheckpointError(GIVE_SOURCE)
    path = Path(source).expanduser()
    if path.is_absolute():
        return _folder(path, revision)
    if not is_hub_id(source):
        raise CheckpointError(f"{source[:80]!r} is neither. {GIVE_SOURCE}")
    from wavalign.models import registry_hub

    pinned = revision if revision and COMMIT.fullmatch(revision) else None
    here = registry_hub.cached(source, pinned) if pinned else None
    if here is not None:
        return replace(_folder(here, None), source=source, revision=pinned)
    found = registry_hub.look(source, revision)
    return _Place(
        source,
        found.revision,
        frozenset(found.files),
        found.small.get("config.json"),
        found.small.get(ADAPTER_FILE),
        found.small.get(LAYOUT_FILE),
        registry_hub.cached(source, found.revision),
        found.download,
        found.stored,
    )


def _folder(path: Path, revision: str | None) -> _Place:
    if revision:
        raise CheckpointError("A revision is of a hub id; a folder is as it is. Leave it empty.")
    if not path.is_dir():
        raise CheckpointError(f"There is no folder {path}.")
    files = frozenset(each.name for each in path.iterdir())
    told = (_json(path / name) for name in ("config.json", ADAPTER_FILE, LAYOUT_FILE))
    return _Place(str(path), None, files, *told, path)


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not valid JSON. Restore the folder.") from error
    return data if isinstance(data, dict) else None


def _base(registry: Registry, wish: Wish, place: _Place) -> Looked:
    layout = layout_of(place.files, place.config, place.source)
    device = device_of(wish.device)
    if place.folder is not None:
        told = estimate_folder(place.folder, wish.dtype, device.type)
    else:
        told = estimate(place.stored, place.config or {}, wish.dtype, device.type)
    name = wish.name or _free_name(registry, place)
    entry = entry_of(
        {
            "source": place.source,
            "revision": place.revision,
            "dtype": wish.dtype,
            "device": wish.device,
            "layout": layout.name,
            "arena": wish.arena,
        },
        "The checkpoint",
    )
    if not wish.adapter:
        _check_free(registry, name)
        same = _same_base(registry, entry)
        if same is not None:
            raise CheckpointError(f'{place.source} is on the list already, as "{same}".')
    config = place.config or {}
    architectures = config.get("architectures") or ()
    facts = {"Layout": layout.name, "Type": str(config.get("model_type") or "not said")}
    if architectures:
        facts["Architecture"] = str(architectures[0])
    facts |= {"Revision": place.revision} if place.revision else {}
    warnings = []
    here = place.folder is not None and may_run_code_in(place.folder, place.source)
    allowed = here or may_run_code(place.source)
    if layout.name == "interleaved":
        told_facts, told_warnings = hints(config, place.folder, place.source, allowed)
        facts |= told_facts
        warnings += told_warnings
    if brings_code(layout, config, place.described) and not allowed:
        warnings.append(
            "It brings Python code of its own, which does not run unless the host starts the app with "
            f"WAVALIGN_TRUST_REMOTE_CODE={place.source}."
        )
    return Looked(
        name,
        "base",
        layout.name,
        {name: entry},
        facts,
        told,
        0 if place.folder is not None else place.download,
        memory.free_bytes(str(device)),
        tuple(warnings),
    )


def _adapter(registry: Registry, wish: Wish, place: _Place, base_name: str, entries: dict[str, Entry]) -> Looked:
    name = wish.name or _free_name(registry, place)
    _check_free(registry, name)
    kind = str(place.adapter.get("peft_type") or "not said")
    if kind != "LORA":
        raise CheckpointError(f"{place.source} is an adapter of type {kind}; only LoRA adapters are supported.")
    entry = entry_of(
        {
            "base": base_name,
            "adapter": place.source,
            "adapter_revision": place.revision,
            "arena": wish.arena,
        },
        "The adapter",
    )
    facts = {"Adapter": f"LoRA, rank {place.adapter.get('r')}", "On": base_name}
    facts |= {"Adapter's revision": place.revision} if place.revision else {}
    layout = entries[base_name].layout if base_name in entries else registry.checkpoint(base_name).layout
    download = 0 if place.folder is not None else place.download
    return Looked(name, "adapter", layout or "unknown", {**entries, name: entry}, facts, download=download)


def _base_for(registry: Registry, place: _Place) -> str:
    told = str(place.adapter.get("base_model_name_or_path") or "")
    base = registry.base_called(told) if told else None
    if base is None:
        raise CheckpointError(
            f'{place.source} is an adapter for "{told or "?"}", which is not on the list. Add that base first, or give '
            "the base above and this as its adapter."
        )
    return base


def _same_base(registry: Registry, entry: Entry) -> str | None:
    """The name of a base from the same source, in the same form."""
    for name in registry.names():
        other, place = registry.entry(name), registry.place(name)
        if place is not None and (entry.dtype, entry.device) == ("auto", "auto"):
            if place.resolve() == Path(entry.source).resolve():
                return name
            continue
        if other is not None and (other.source, other.revision, other.dtype, other.device) == (
            entry.source,
            entry.revision,
            entry.dtype,
            entry.device,
        ):
            return name
    return None


def _check_free(registry: Registry, name: str) -> None:
    if name in registry.names():
        raise CheckpointError(f'There is a checkpoint "{name}" already. Choose another name.')


def _free_name(registry: Registry, place: _Place) -> str:
    """The end of the source, with a number where that is taken."""
    name = _spelled(Path(place.source).name)
    taken, number = set(registry.names()), 2
    chosen = name
    while chosen in taken:
        chosen, number = f"{name}-{number}", number + 1
    return chosen


def _spelled(words: str) -> str:
    return (re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-._") or "checkpoint")[:60]
