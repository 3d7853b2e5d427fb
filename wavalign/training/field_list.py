"""Every field of the config with its default and its meaning, for the command line."""

from __future__ import annotations

import inspect

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from wavalign.training.config import TrainConfig
from wavalign.training.config_files import models_of


def field_list(model: type[BaseModel] = TrainConfig, prefix: str = "") -> str:
    """One line a field: its path, its default, what it means."""
    lines: list[str] = []
    for name, field in model.model_fields.items():
        inner = models_of(field.annotation)
        if len(inner) > 1:
            for option in inner:
                kind = option.model_fields["kind"].default
                lines.append(f"{prefix}{name}.kind={kind}  {inspect.getdoc(option) or ''}".replace("\n", " "))
                lines.append(field_list(option, f"{prefix}{name}."))
        elif inner:
            lines.append(field_list(inner[0], f"{prefix}{name}."))
        elif name != "kind":
            default = field.get_default(call_default_factory=True)
            shown = "(required)" if default is PydanticUndefined else repr(default)
            lines.append(f"  {prefix}{name}={shown}  {' '.join((field.description or '').split())}")
    return "\n".join(line for line in lines if line)
