"""What the Checkpoints page's script asks of the server: one message in, one answer out, plain JSON."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.services import Services
from wavalign.models.protocol import Checkpoint, CheckpointError

Json = dict[str, Any]
_LONGEST = 2000
_CARD = 20_000
_REMOTE_FIELDS = ("url", "model", "dialect", "voice", "key_env", "system", "sample_rate", "stream", "extra")


@dataclass
class CheckpointsDesk:
    """``answer`` takes {"do": ..., ...} and gives plain JSON; what went wrong is {"error": sentence}."""

    services: Services
    _troubles: dict[str, str] = field(default_factory=dict)

    def answer(self, message: Any) -> Json:
        acts: dict[str, Callable[[Mapping[str, Any]], Json]] = {
            "hello": self._hello,
            "watch": self._watch,
            "card": self._card,
            "look": self._look,
            "add": self._add,
            "load": self._load,
            "unload": self._unload,
            "remove": self._remove,
        }
        try:
            wanted = message.get("do") if isinstance(message, dict) else None
            if not isinstance(wanted, str) or wanted not in acts:
                raise CheckpointError("That is not a message this page sends.")
            return acts[wanted](message)
        except CheckpointError as error:
            return {"error": str(error)}
        except Exception as error:  # the outermost boundary: a sentence goes out, the traceback is logged
            traceback.print_exception(error, file=sys.stderr)
            return {"error": "Something went wrong here, and was logged. Try again."}

    def _hello(self, message: Mapping[str, Any]) -> Json:
        from wavalign.models.memory_estimate import DTYPE_BYTES
        from wavalign.models.remote_description import DIALECTS

        return {
            "dtypes": ["auto", *DTYPE_BYTES],
            "devices": ["auto", *_devices()],
            "dialects": [{"name": name, "words": each.words} for name, each in DIALECTS.items()],
        }

    def _watch(self, message: Mapping[str, Any]) -> Json:
        from wavalign.models import memory
        from wavalign.models.memory_estimate import in_words

        registry = self.services.registry
        loaded = registry.bases.all()
        devices = sorted({each.device for each in loaded} | {_default_device()})
        budget = registry.bases.budget
        return {
            "trouble": registry.trouble(),
            "loading": [
                {"name": each.name, "words": each.sentence(), "share": each.fraction} for each in registry.board.all()
            ],
            "memory": [
                {
                    "device": device,
                    "taken": sum(each.size for each in loaded if each.device == device),
                    "total": budget or memory.total_bytes(device),
                    "words": f"{_taken(loaded, device)}, "
                    f"{in_words(memory.free_bytes(device))} free of {in_words(memory.total_bytes(device))}"
                    + (f"; checkpoints may take {in_words(budget)}" if budget else ""),
                }
                for device in devices
            ],
            "checkpoints": [self._line(name) for name in self.services.all_names()],
        }

    def _line(self, name: str) -> Json:
        from wavalign.models.memory_estimate import in_words
        from wavalign.models.registry_layouts import REMOTE

        registry = self.services.registry
        try:
            checkpoint = registry.checkpoint(name)
        except CheckpointError as error:
            return {"name": name, "kind": "broken", "words": "cannot be used", "trouble": str(error)}
        loaded = next((each for each in registry.bases.all() if each.name == checkpoint.base_name), None)
        line: Json = {
            "name": name,
            "kind": "remote" if checkpoint.layout == REMOTE else "adapter" if checkpoint.adapter else "base",
            "words": _words(checkpoint),
            "base": checkpoint.base_name if checkpoint.adapter else None,
            "facts": _facts(checkpoint),
            "trouble": self._troubles.get(name),
            "arena": checkpoint.arena,
            "removable": self._removable(name),
            "state": "remote" if checkpoint.layout == REMOTE else "not loaded",
        }
        if checkpoint.layout == REMOTE and not registry.is_ready(name):
            line["state"] = "no key"
        elif checkpoint.layout != REMOTE and not registry.is_ready(name):
            line["state"] = "not downloaded"
        if loaded is not None and (checkpoint.adapter is None or name in loaded.adapters):
            line["state"] = "answering" if registry.bases.users(loaded.name) else "loaded"
            if checkpoint.adapter is None:
                adapters = len(loaded.adapters)
                line["memory"] = in_words(loaded.size)
                line["memory_words"] = f"on {loaded.device}" + (
                    f", with {adapters} adapter{'s' if adapters > 1 else ''}" if adapters else ""
                )
                line["unloadable"] = True
            else:
                line["memory_words"] = f"on {checkpoint.base_name}"
        return line

    def _removable(self, name: str) -> bool:
        registry = self.services.registry
        place = registry.place(name)
        if place is None:
            return name in registry.entries.own()
        return len(registry.places) > 1 and place.parent == registry.places[1]

    def _card(self, message: Mapping[str, Any]) -> Json:
        """The model card and the whole provenance of one checkpoint."""
        from pathlib import Path

        checkpoint = self.services.registry.checkpoint(str(message.get("name")))
        folder = checkpoint.adapter or checkpoint.base
        card = folder / "README.md" if isinstance(folder, Path) else None
        text = card.read_text(encoding="utf-8", errors="replace")[:_CARD] if card and card.is_file() else ""
        if text.startswith("---\n") and "\n---" in text[4:]:
            text = text[text.index("\n---", 4) + 4 :]
        told = json.dumps(checkpoint.provenance, indent=1, default=str, ensure_ascii=False)
        return {"card": text.strip(), "provenance": told[:_CARD] if checkpoint.provenance else ""}

    def _look(self, message: Mapping[str, Any]) -> Json:
        return _shown(self._looked(message))

    def _add(self, message: Mapping[str, Any]) -> Json:
        from wavalign.models.registry_adding import add

        looked = self._looked(message)  # anew: the browser only says what was wished
        add(self.services.registry, looked)
        where = "Talk and the Arena" if message.get("arena") is True else "Talk"
        return {"said": f"{looked.name} is on the list: it can be asked in {where}."}

    def _looked(self, message: Mapping[str, Any]) -> Any:
        from wavalign.models.registry_adding import Wish, look, look_remote

        def typed(name: str) -> str | None:
            value = message.get(name)
            if value is not None and not isinstance(value, (str, int, float, bool)):
                raise CheckpointError(f"{name} must be text.")
            return str(value).strip()[:_LONGEST] or None if value is not None else None

        arena = message.get("arena") is True
        if message.get("kind") == "remote":
            given = {name: typed(name) for name in _REMOTE_FIELDS if name != "extra"}
            described = {name: value for name, value in given.items() if value is not None}
            return look_remote(self.services.registry, typed("name"), described, arena)
        wish = Wish(
            typed("source") or "",
            typed("revision"),
            typed("adapter"),
            typed("adapter_revision"),
            typed("dtype") or "auto",
            typed("device") or "auto",
            typed("name"),
            arena,
        )
        return look(self.services.registry, wish)

    def _load(self, message: Mapping[str, Any]) -> Json:
        """Begins to load; ``watch`` tells how far it is, and what went wrong."""
        name = self._known(message)
        self._troubles.pop(name, None)

        def load() -> None:
            try:
                self.services.answering([name])
            except CheckpointError as error:
                self._troubles[name] = str(error)
            except Exception as error:  # the outermost boundary of the thread
                traceback.print_exception(error, file=sys.stderr)
                self._troubles[name] = f'"{name}" could not be loaded ({type(error).__name__}); it was logged.'

        threading.Thread(target=load, name="load", daemon=True).start()
        return {}

    def _unload(self, message: Mapping[str, Any]) -> Json:
        name = self._known(message)
        base = self.services.registry.checkpoint(name).base_name
        self.services.registry.unload(base)
        return {"said": f"{base} is out of memory; it is loaded again when it is asked."}

    def _remove(self, message: Mapping[str, Any]) -> Json:
        name = self._known(message)
        self._not_in_training(name)
        said = self.services.registry.remove(name)
        self._troubles.pop(name, None)
        return {"said": said}

    def _not_in_training(self, name: str) -> None:
        from app.jobs.job import ACTIVE
        from app.store import StoreError

        try:
            jobs = self.services.jobs.queue.jobs((*ACTIVE, "queued"))
        except StoreError:
            return
        for job in jobs:
            config = job.folder / "config.yaml"
            if config.is_file() and f"base: {name}\n" in config.read_text(encoding="utf-8"):
                raise CheckpointError(f'The run {job.name} trains from "{name}" right now. Stop it first, or wait.')

    def _known(self, message: Mapping[str, Any]) -> str:
        name = message.get("name")
        if not isinstance(name, str):
            raise CheckpointError("Which checkpoint?")
        self.services.registry.checkpoint(name)
        return name


def _shown(looked: Any) -> Json:
    from wavalign.models.memory_estimate import in_words

    told = looked.estimate
    rows = [[label, value] for label, value in looked.facts.items()]
    if looked.download:
        rows.append(["Download", in_words(looked.download)])
    if told is not None:
        rows.append(["Memory, estimated", told.words()])
        rows.append(["Free now", in_words(looked.free)])
    fits = told is None or looked.free is None or told.total <= looked.free
    warnings = list(looked.warnings)
    if not fits:
        warnings.append(
            f"That is more than is free now: others are put away for it, and if {in_words(told.weights)} of weights "
            "still do not fit, it is refused."
        )
    return {"name": looked.name, "kind": looked.kind, "rows": rows, "warnings": warnings, "adds": list(looked.entries)}


def _words(checkpoint: Checkpoint) -> str:
    """What it is, in one line."""
    from wavalign.models.registry_layouts import REMOTE

    if checkpoint.layout == REMOTE:
        return f"{checkpoint.provenance['model']} at {checkpoint.provenance['service']}"
    if checkpoint.adapter is not None:
        return f"on {checkpoint.base_name}"
    how = [each for each in (checkpoint.dtype, checkpoint.device) if each != "auto"]
    return ", ".join([checkpoint.layout, *how])


def _facts(checkpoint: Checkpoint) -> list[list[str]]:
    """Where it comes from: of a promoted adapter the run, its data and what was measured."""
    told = checkpoint.provenance
    method, data, measured = told.get("method"), told.get("data"), told.get("measured")
    rows = [
        ("Source", told.get("source") or told.get("adapter")),
        ("Revision" if "source" in told else "Code revision", told.get("revision")),
        ("Run", told.get("promoted_from") or told.get("run")),
        ("Recipe", told.get("name")),
        ("Started from", told.get("start")),
        ("Method", method.get("kind") if isinstance(method, Mapping) else method),
        ("Steps", told.get("step")),
        ("Data", data.get("source") if isinstance(data, Mapping) else data),
        ("Rewards", ", ".join(told["rewards"]) if isinstance(told.get("rewards"), Mapping) else None),
        ("Seed", told.get("seed")),
        ("Licence", told.get("license")),
        ("Made", told.get("made")),
    ]
    found = [[label, str(value)[:200]] for label, value in rows if value not in (None, "")]
    if isinstance(measured, Mapping):
        found += _measured(checkpoint.name, measured)
    return found


def _measured(name: str, measured: Mapping[str, Any]) -> list[list[str]]:
    """What was measured when it was promoted, before and after."""
    rows = []
    others = [key for key, value in measured.items() if isinstance(value, Mapping) and key != name]
    before, after = measured.get(others[0]) if others else None, measured.get(name)
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return rows
    for key, label in (("right", "Right answers"), ("wer", "WER of the speech"), ("delivery", "Delivery fits")):
        one, other = before.get(key), after.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            interval = f"({100 * other['low']:.0f}–{100 * other['high']:.0f})"
            rows.append([label, f"{100 * one['value']:.0f} → {100 * other['value']:.0f} % {interval}"])
    if rows:
        rows.append(["Measured on", f"{measured.get('prompts')} held-out questions"])
    return rows


def _taken(loaded: Any, device: str) -> str:
    from wavalign.models.memory_estimate import in_words

    size = sum(each.size for each in loaded if each.device == device)
    return f"{in_words(size)} in checkpoints" if size else "nothing loaded"


def _devices() -> list[str]:
    import torch

    found = ["cpu"]
    found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
