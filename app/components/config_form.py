"""The form of a training job, made from the config's own schema: fields, help, conditions, errors beside fields.

Nothing is mapped by hand: a field that is added to the config is in the form, with its documentation as its help.
Values travel as text, the way a person types them. Knows no Gradio.
"""

from __future__ import annotations

import json
import shlex
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from wavalign.training.config import TrainConfig
from wavalign.training.config_files import RECIPES, models_of

Plain = dict[str, Any]
Kind = Literal["int", "float", "text", "switch", "choice", "list", "mapping"]

FIRST = ("name", "base", "data.source", "data.path", "rewards.weights", "steps")
"""The fields that come first; all others are folded away."""
_TAG = "kind"
_SPELT = {"url": "URL", "api": "API", "kl": "KL", "rl": "RL", "lr": "learning rate", "eps": "epsilon"}


@dataclass(frozen=True)
class FormField:
    """``path`` is where the config has it; ``when`` are (path, kind) pairs that must all hold for it to be shown."""

    path: str
    section: str
    kind: Kind
    help: str
    default: Any
    choices: tuple[str, ...]
    optional: bool
    limits: str
    when: tuple[tuple[str, str], ...]
    block: str = ""
    """The optional block that this field is a part of: absent until one of its fields is given a value, and again when
    what it needs is emptied."""

    @property
    def label(self) -> str:
        """The field's name, after that of its optional block: several of them have a path or a temperature."""
        name, block = (_in_words(path.rpartition(".")[2]) for path in (self.path, self.block))
        return f"{block}: {name}" if block else name

    def described(self) -> Plain:
        return {
            "path": self.path,
            "section": self.section,
            "label": self.label,
            "kind": self.kind,
            "help": self.help,
            "choices": list(self.choices),
            "optional": self.optional,
            "limits": self.limits,
            "when": [list(pair) for pair in self.when],
            "first": self.path in FIRST,
        }


def fields() -> tuple[FormField, ...]:
    """Every field of the config, in its order; of unions the fields of every kind, each with its condition."""
    return tuple(_fields(TrainConfig, None, "", "Run", ()))


def text_of(config: Mapping[str, Any]) -> dict[str, str]:
    """What each field shows for ``config`` (plain data), defaults filled in; hidden fields show their defaults."""
    return {field.path: _text(_value(config, field)) for field in fields()}


def merged(base: Mapping[str, Any], changes: Mapping[str, str]) -> Plain:
    """``base`` (plain data) with typed ``changes`` (path -> text) applied, kinds before what depends on them.

    What cannot be read is put in as it was typed, so that the config's own check explains it.
    """
    result: Plain = json.loads(json.dumps(base, default=str))
    every = fields()
    known = {(field.path, field.when): field for field in every}
    kinds = [field for field in every if field.path.rpartition(".")[2] == _TAG and field.path in changes]
    for field in kinds:
        if all(_value(result, _find(known, path)) == kind for path, kind in field.when):
            if field.optional and changes[field.path] == "":
                outer, name = _block_of(result, field.path.rpartition(".")[0])
                outer[name] = None
                continue
            block, _ = _block_of(result, field.path)
            if block.get(_TAG, field.default) != changes[field.path]:
                block.clear()
            for path, kind in field.when:
                outer, tag = _block_of(result, path)
                outer.setdefault(tag, kind)
            block[_TAG] = changes[field.path]
    for field in every:
        if field.path not in changes or field in kinds:
            continue
        if not all(_value(result, _find(known, path)) == kind for path, kind in field.when):
            continue
        value = _parsed(field, changes[field.path])
        if field.block and _at(result, field.block) is None and changes[field.path].strip() == _text(field.default):
            continue
        for path, kind in field.when:  # a union's block says which kind it is
            tagged, tag = _block_of(result, path)
            tagged.setdefault(tag, kind)
        block, key = _block_of(result, field.path)
        if value is None and not field.optional and field.default is not PydanticUndefined and field.kind != "text":
            block[key] = ""  # left empty although it needs a value: the check says so
        else:
            block[key] = value
    for path in dict.fromkeys(field.block for field in every if field.block):
        needed = [field for field in every if field.block == path and field.default is PydanticUndefined]
        if needed and _at(base, path) is not None and all(_emptied(field, changes) for field in needed):
            outer, name = _block_of(result, path)
            outer[name] = None
    return result


def checked(plain: Mapping[str, Any]) -> tuple[TrainConfig | None, dict[str, str]]:
    """The config, or what is wrong with it: path -> sentence, and under "" what belongs to no one field."""
    try:
        return TrainConfig.model_validate(plain), {}
    except ValidationError as error:
        return None, _explained(error)


def from_yaml(text: str) -> tuple[Plain | None, dict[str, str]]:
    """A config typed or loaded as YAML, as plain data; or what is wrong with it."""
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return None, {"": f"This is not YAML: {' '.join(str(error).split())[:200]}"}
    if not isinstance(plain, dict):
        return None, {"": "This is not a config: a mapping of fields was expected."}
    _, problems = checked(plain)
    return (None, problems) if problems else (plain, {})


def to_yaml(config: TrainConfig) -> str:
    """What was chosen, defaults left out."""
    return yaml.safe_dump(
        json.loads(config.model_dump_json(exclude_unset=True)), sort_keys=False, allow_unicode=True, width=100
    )


def command_line(config: TrainConfig, recipe: Path | None) -> str:
    """The shell command that makes the same run; ``recipe`` is the file that it starts from."""
    plain = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe else {}
    overrides = _overrides([TrainConfig], plain, None, _dump(config), "")
    shown = recipe.relative_to(RECIPES.parents[1]) if recipe and recipe.is_relative_to(RECIPES) else recipe
    parts = ["python", "-m", "wavalign.train", str(shown or "CONFIG.yaml"), *overrides]
    return " ".join(shlex.quote(part) for part in parts)


def differences(one: TrainConfig, other: TrainConfig) -> list[tuple[str, str, str]]:
    """Fields that differ: (path, value of the one, value of the other); "" where one has no such field."""
    left, right = dict(_leaves(_dump(one))), dict(_leaves(_dump(other)))
    return [
        (path, _text(left.get(path, "")), _text(right.get(path, "")))
        for path in dict.fromkeys([*left, *right])
        if left.get(path, "") != right.get(path, "")
    ]


def _in_words(name: str) -> str:
    words = [_SPELT.get(word, word) for word in name.split("_")]
    return " ".join([*words[:-1], "(s)"] if words[-1] == "s" else words)


def _fields(
    model: type[BaseModel], given: BaseModel | None, prefix: str, section: str, when: tuple, block: str = ""
) -> Iterator[FormField]:
    """``given`` is the block that its parent has by default; its values come before those of its class."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = models_of(info.annotation)
        title = section if prefix.count(".") else name.replace("_", " ").capitalize()
        default = getattr(given, name) if isinstance(given, model) else info.get_default(call_default_factory=True)
        own = default if isinstance(default, BaseModel) else None
        if len(inner) > 1:
            kinds = {option.model_fields[_TAG].default: option for option in inner}
            tag = f"{path}.{_TAG}"
            about = " ".join(f"{kind}: {_first_sentence(option)}" for kind, option in kinds.items())
            absent = _allows_none(info)  # then no kind at all is a choice, too
            chosen = getattr(default, _TAG, "" if absent else next(iter(kinds)))
            choices = ("", *kinds) if absent else tuple(kinds)
            help_ = " ".join([*(info.description or "").split(), about])
            yield FormField(tag, title, "choice", help_, chosen, choices, absent, "", when, block)
            for kind, option in kinds.items():
                for field in _fields(option, own, f"{path}.", title, (*when, (tag, kind)), block):
                    if field.path != tag:
                        yield field
        elif inner:
            absent = _allows_none(info)
            yield from _fields(inner[0], own, f"{path}.", title, when, path if absent else block)
        elif name != _TAG:
            yield _leaf(path, title if prefix else "Run", info, default, when, block)


def _leaf(path: str, section: str, info: FieldInfo, default: Any, when: tuple, block: str) -> FormField:
    annotation = _without_none(info.annotation)
    origin = get_origin(annotation)
    choices: tuple[str, ...] = ()
    kind: Kind = "text"
    if origin is Literal:
        kind, choices = "choice", tuple(str(choice) for choice in get_args(annotation))
    elif annotation is bool:
        kind = "switch"
    elif annotation in (int, float):
        kind = "int" if annotation is int else "float"
    elif origin in (tuple, list):
        kind = "list"
    elif origin is dict:
        kind = "mapping"
    help_ = " ".join((info.description or "").split())
    return FormField(path, section, kind, help_, default, choices, _allows_none(info), _limits(info), when, block)


def _limits(info: FieldInfo) -> str:
    """What the schema allows, as words: "at least 1, at most 5"."""
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    found = []
    for each in info.metadata:
        for name, word in words.items():
            if (value := getattr(each, name, None)) is not None:
                found.append(f"{word} {value:g}")
    return ", ".join(found)


def _value(config: Mapping[str, Any], field: FormField) -> Any:
    found = _at(config, field.path)
    if found is None and not _has(config, field.path):
        return None if field.default is PydanticUndefined else field.default
    return found


def _find(known: Mapping[tuple, FormField], path: str) -> FormField:
    return next(field for (name, _), field in known.items() if name == path)


def _at(config: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return None
        config = config[part]
    return config


def _has(config: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def _block_of(config: Plain, path: str) -> tuple[Plain, str]:
    """The block that holds ``path``; one that is made for it starts as its parent has it by default."""
    *parents, key = path.split(".")
    model: type[BaseModel] | None = TrainConfig
    for part in parents:
        info = model.model_fields.get(part) if model else None
        if not isinstance(config.get(part), dict):
            default = info.get_default(call_default_factory=True) if info else None
            config[part] = json.loads(default.model_dump_json(exclude_unset=True)) if default else {}
        config = config[part]
        inner = models_of(info.annotation) if info else []
        model = inner[0] if len(inner) == 1 else None
    return config, key


def _emptied(field: FormField, changes: Mapping[str, str]) -> bool:
    return field.path in changes and not changes[field.path].strip()


def _parsed(field: FormField, text: str) -> Any:
    """The text as plain data; text that cannot be read is given back as it is."""
    text = text if isinstance(text, str) else str(text)
    stripped = text.strip()
    if field.kind == "switch":
        return stripped.lower() in ("true", "on", "1", "yes")
    if field.kind == "list":
        return [part.strip() for part in stripped.split(",") if part.strip()]
    if field.kind == "mapping":
        try:
            return yaml.safe_load(f"{{{stripped}}}") or {}
        except yaml.YAMLError:
            return stripped
    if stripped == "":
        return None if field.optional or field.kind in ("int", "float") else ""
    return stripped


def _text(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(each)}" for name, each in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(each) for each in value)
    return str(value)


def _explained(error: ValidationError) -> dict[str, str]:
    problems: dict[str, str] = {}
    paths = {field.path for field in fields()}
    for each in error.errors():
        place = _place(each["loc"])
        if each["type"] == "value_error":
            sentence = str(each["ctx"]["error"])
            # The sentence of a whole block names the field that it is about first.
            first = sentence.split(" ", 1)[0].strip(".,:")
            place = first if first in paths else place
        elif each["type"] == "extra_forbidden":
            sentence, place = f"{'.'.join(map(str, each['loc']))} is not a field.", ""
        elif each["type"] == "missing" or each.get("input") in ("", None):
            sentence = "A value is needed."
        else:
            message = each["msg"]
            sentence = f"{message[0].upper()}{message[1:]}, got {_text(each['input'])[:60]}."
        while place and place not in paths and not any(path.startswith(f"{place}.") for path in paths):
            place = place.rpartition(".")[0]
        problems.setdefault(place if place in paths else "", sentence)
    return problems


def _place(location: Sequence[Any]) -> str:
    """The path of an error: pydantic also names the chosen kind of a union, which paths do not."""
    options: list[type[BaseModel]] = [TrainConfig]
    parts: list[str] = []
    for part in location:
        found = [option.model_fields[part].annotation for option in options if part in option.model_fields]
        if found:
            parts.append(str(part))
            options = [model for annotation in found for model in models_of(annotation)]
        elif any(_TAG in o.model_fields and o.model_fields[_TAG].default == part for o in options):
            options = [o for o in options if o.model_fields[_TAG].default == part]
        else:
            break  # inside a list or a mapping: the field itself is near enough
    return ".".join(parts)


def _overrides(
    options: Sequence[type[BaseModel]], plain: Plain | None, default: Plain | None, config: Plain, prefix: str
) -> Iterator[str]:
    """``a.b=value`` for what differs; ``plain`` is what the recipe's file says of this block, None for nothing.

    An override of a block that the file leaves out makes that block from its class, not from its parent's default, so
    then all of its differences from the class are named.
    """
    if plain is None and config == default:
        return
    model = options[0]
    if len(options) > 1:
        model = next(each for each in options if each.model_fields[_TAG].default == config[_TAG])
        if plain is None or plain.get(_TAG) != config[_TAG]:
            yield f"{prefix}{_TAG}={config[_TAG]}"
            plain = {}
    plain = plain or {}
    for name, info in model.model_fields.items():
        value, inner = config[name], models_of(info.annotation)
        usual = _plain_default(info)
        if inner and isinstance(value, dict):
            yield from _overrides(inner, plain.get(name), usual, value, f"{prefix}{name}.")
        elif name != _TAG and value != plain.get(name, usual):
            yield f"{prefix}{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _plain_default(info: FieldInfo) -> Any:
    default = info.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return json.loads(default.model_dump_json())
    return None if default is PydanticUndefined else json.loads(json.dumps(default, default=str))


def _block_names() -> set[str]:
    return {part for field in fields() for part in field.path.split(".")[:-1]}


def _leaves(plain: Plain, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, dict) and name in _block_names():
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _dump(config: TrainConfig) -> Plain:
    return json.loads(config.model_dump_json())


def _allows_none(info: FieldInfo) -> bool:
    return type(None) in get_args(info.annotation)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [each for each in get_args(annotation) if each is not type(None)]
        return kept[0] if len(kept) == 1 else annotation
    return annotation


def _first_sentence(model: type[BaseModel]) -> str:
    text = " ".join((model.__doc__ or "").split())
    return text.split(". ")[0].rstrip(".") + "."
