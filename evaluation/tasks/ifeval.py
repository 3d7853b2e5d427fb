"""IFEval's scores of one reply: which of its instructions it follows, strictly, and with some slack for packaging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.tasks.ifeval_checks import InstructionError, follows


@dataclass(frozen=True)
class Instruction:
    kind: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Followed:
    """For each instruction of a prompt whether it was followed."""

    strict: tuple[bool, ...]
    loose: tuple[bool, ...]


def instructions_of(kinds: Sequence[str], parameters: Sequence[Mapping[str, Any] | None]) -> tuple[Instruction, ...]:
    """The data set's two parallel columns; parameters that are None belong to other kinds and are left out.

    Raises:
        InstructionError: when the columns are of different lengths or empty.
    """
    if not kinds or len(kinds) != len(parameters):
        raise InstructionError(f"{len(kinds)} instructions do not go with {len(parameters)} sets of parameters")
    return tuple(
        Instruction(kind, {name: value for name, value in (given or {}).items() if value is not None})
        for kind, given in zip(kinds, parameters, strict=True)
    )


def followed(reply: str, instructions: Iterable[Instruction]) -> Followed:
    """Strictly as it stands; loosely when the reply, or it without its first line, last line, or asterisks, does.

    Raises:
        InstructionError: when an instruction cannot be checked.
    """
    variants = loosened(reply)
    asked = tuple(instructions)
    return Followed(
        strict=tuple(follows(each.kind, reply, each.parameters) for each in asked),
        loose=tuple(any(follows(each.kind, v, each.parameters) for v in variants) for each in asked),
    )


def loosened(reply: str) -> tuple[str, ...]:
    """The eight readings of the published loose score: the first line, the last and asterisks, each kept or dropped."""
    lines = reply.split("\n")
    cut = (reply, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])))
    return (*cut, *(variant.replace("*", "") for variant in cut))


def rates(replies: Sequence[Followed]) -> dict[str, float]:
    """The four published rates, 0 to 1; instruction rates pool the instructions of all prompts.

    ``final`` is their mean, as VoiceBench reports it. Empty without replies.
    """
    if not replies:
        return {}
    found: dict[str, float] = {}
    for mode in ("strict", "loose"):
        lists = [getattr(reply, mode) for reply in replies]
        found[f"prompt_{mode}"] = sum(all(one) for one in lists) / len(lists)
        found[f"instruction_{mode}"] = sum(sum(one) for one in lists) / sum(len(one) for one in lists)
    found["final"] = sum(found.values()) / 4
    return found
