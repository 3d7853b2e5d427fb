"""What a visitor can ask with one press: shipped recordings, or typed questions where there are none."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from wavalign.closedtalk.understanding import describe_world

_TYPED = ("Sums", "Capitals", "Opposites", "Animal sounds", "The day after", "Colours")


class ExamplesError(ValueError):
    """The list of shipped examples is not what it should be; the message says where."""


@dataclass(frozen=True)
class Example:
    """``text`` is what is asked; ``audio`` a recording of it, or None for a typed one."""

    text: str
    audio: Path | None = None


def load_examples(assets: Path) -> tuple[Example, ...]:
    """The examples of ``assets/examples/examples.json``, a list of ``{"text", "audio"}``; typed ones if there is none.

    Raises:
        ExamplesError: when the file is there but is not such a list, or names a recording that is missing.
    """
    listing = assets / "examples" / "examples.json"
    if not listing.is_file():
        world = dict(describe_world())
        return tuple(Example(world[title][0]) for title in _TYPED if title in world)
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
        examples = tuple(Example(each["text"], listing.parent / each["audio"]) for each in entries)
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ExamplesError(f"{listing} is not a list of text and audio ({error}).") from error
    for example in examples:
        if not example.audio.is_file():
            raise ExamplesError(f"{listing} names {example.audio.name}, which is not there.")
    return examples
