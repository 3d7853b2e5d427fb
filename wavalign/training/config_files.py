"""Configs as YAML, and ``key=value`` overrides of them; messages name field, value and what would be right."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from wavalign.training.config import ConfigError, TrainConfig

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
_CHOICE = "kind"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The config in a YAML file with ``a.b=value`` overrides applied.

    Raises:
        ConfigError: when the file is missing or not YAML, or a field is unknown or out of range.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The config {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text; a config is a YAML file.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path} does not hold a config: a mapping of fields was expected.")
    return make_config(overridden(data, overrides), str(path))


def make_config(data: Mapping[str, Any], where: str = "The config") -> TrainConfig:
    """Checks plain data.

    Raises:
        ConfigError: naming every field that is wrong.
    """
    try:
        return TrainConfig.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explained(item) for item in error.errors()[:5])
        raise ConfigError(f"{where}: {problems}") from error


def save_config(config: TrainConfig, path: str | Path) -> None:
    """Writes every field, defaults included, so that a later default does not change an old run."""
    plain = json.loads(config.model_dump_json())
    Path(path).write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")


def overridden(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``data`` with ``a.b.c=value`` applied; values are YAML (``1e-3``, ``true``, ``[a, b]``, ``null``).

    Choosing another ``kind`` of a block drops the fields of the kind that stood there.

    Raises:
        ConfigError: when an override is not of that form, or goes through a field that is no block.
    """
    result: dict[str, Any] = json.loads(json.dumps(data, default=str))
    for override in overrides:
        key, equals, value = override.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ConfigError(f'"{override}" is not an override; write field=value, such as optimiser.lr=3e-4.')
        try:
            parsed = yaml.safe_load(value) if value.strip() else None
        except yaml.YAMLError as error:
            raise ConfigError(f'The value in "{override}" is not valid YAML.') from error
        block = result
        for depth, part in enumerate(path[:-1]):
            inner = block.get(part)
            if inner is None:
                inner = block[part] = {}
            if not isinstance(inner, dict):
                raise ConfigError(f'"{override}": {".".join(path[: depth + 1])} is a value, not a block of fields.')
            block = inner
        if path[-1] == _CHOICE and block.get(_CHOICE, parsed) != parsed:
            block.clear()
        block[path[-1]] = parsed
    return result


def recipes() -> dict[str, Path]:
    """The shipped recipes, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def _explained(error: Mapping[str, Any]) -> str:
    place = [str(part) for part in error["loc"]]
    where = ".".join(place) or "config"
    if error["type"] == "extra_forbidden":
        known = _fields_at(TrainConfig, place[:-1])
        near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"the fields are: {', '.join(known)}"
        return f"{where} is not a field; {hint}"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    given = error.get("input")
    shown = f", got {given!r}" if not isinstance(given, Mapping) else ""
    return f"{where}: {message}{shown}"


def _fields_at(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The fields of the block at ``place``, following the kinds of unions; empty where it cannot be told."""
    fields = list(model.model_fields)
    options: list[type[BaseModel]] = [model]
    for part in place:
        found = [o.model_fields[part].annotation for o in options if part in o.model_fields]
        if found:
            options = [m for annotation in found for m in models_of(annotation)]
        else:  # pydantic names the chosen kind of a union
            options = [m for m in options if m.model_fields.get(_CHOICE) and m.model_fields[_CHOICE].default == part]
        fields = sorted({name for option in options for name in option.model_fields})
    return fields


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """The blocks among the types that a field may take."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in models_of(part)]
