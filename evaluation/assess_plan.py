"""What an evaluation of checkpoints asks: who answers, which tasks, how often, with which seeds, who listens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evaluation.acoustics_hearing import EMBEDDED
from evaluation.tasks.registry import TASKS
from wavalign.models.protocol import Checkpoint
from wavalign.rewards.config import JudgeConfig

PLAN = "plan.json"
_EDGE = 1 << 20


class PlanError(ValueError):
    """A plan that cannot be carried out; the message is one sentence that says what to do."""


class Plan(BaseModel):
    """Everything that the figures depend on, beside the weights themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoints: tuple[str, ...] = Field(description="names from the registry; the others are compared with the first")
    tasks: tuple[str, ...] = Field(("closedtalk",), description="names from the registry of tasks")
    limit: int | None = Field(None, ge=1, description="prompts of each task; None takes all")
    samples: int = Field(1, ge=1, le=64, description="replies to each prompt, each with a sampling seed of its own")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of the choice of prompts, the sampling and the bootstrap")
    temperature: float | None = Field(None, ge=0, le=10, description="of words; None: what each base recommends")
    speech_temperature: float | None = Field(
        None, ge=0, le=10, description="of speech; None: what each base recommends"
    )
    recogniser: str = Field(EMBEDDED, description="embedded, none, or a Whisper checkpoint on this machine")
    dnsmos: bool = Field(True, description="predict listeners' opinions with DNSMOS")
    utmos: Path | None = Field(None, description="a checkout of tarepan/SpeechMOS other than torch.hub's")
    data: dict[str, str] = Field({}, description="task -> folder or hub id of a data set that is not shipped")
    judge: JudgeConfig | None = Field(None, description="scores what no rule can")
    batch: int = Field(32, ge=1, le=4096, description="replies decoded at once")

    @field_validator("checkpoints")
    @classmethod
    def _named(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("name at least one checkpoint")
        if len(set(names)) < len(names):
            raise ValueError("each checkpoint is named once")
        return names

    @field_validator("tasks")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name.partition("/")[0] not in TASKS]
        if unknown:
            raise ValueError(f'there is no task "{unknown[0]}"; the tasks are: {", ".join(TASKS)}')
        if not names or len(set(names)) < len(names):
            raise ValueError("name at least one task, each once")
        return names

    @property
    def baseline(self) -> str:
        return self.checkpoints[0]

    def seed_of(self, task: str, item: str, sample: int) -> int:
        """The sampling seed of one reply: the same for every checkpoint, whatever else is asked beside it."""
        name = f"{self.seed}\0{task}\0{item}\0{sample}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1


def make_plan(**fields: Any) -> Plan:
    """Raises:
    PlanError: one sentence that names the field.
    """
    try:
        return Plan(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise PlanError(f"{field}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r}).") from error


def read_plan(folder: Path) -> tuple[Plan, dict[str, str]] | None:
    """The plan of a work folder and the fingerprints of its checkpoints (empty before the first start); None without.

    Raises:
        PlanError: when the file is not a plan.
    """
    path = folder / PLAN
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return make_plan(**stored["plan"]), dict(stored.get("fingerprints", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"{path} is not the plan of an evaluation ({error}).") from error


def write_plan(folder: Path, plan: Plan, fingerprints: dict[str, str] | None = None) -> None:
    stored = {"plan": plan.model_dump(mode="json"), "fingerprints": fingerprints or {}}
    temporary = folder / f".{PLAN}.tmp"
    temporary.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / PLAN)


def differences(one: Plan, other: Plan) -> list[str]:
    """The fields in which two plans differ. How many are decoded at once changes no figure."""
    return [name for name in Plan.model_fields if name != "batch" and getattr(one, name) != getattr(other, name)]


def fingerprint(checkpoint: Checkpoint) -> str:
    """Tells weights apart: of every weight and description file its name, its size and both of its ends."""
    digest = hashlib.sha256()
    for place in (checkpoint.base, checkpoint.adapter):
        folder = Path(place) if place else None
        if folder is None or not folder.is_dir():
            digest.update(f"{place}\0".encode())  # on the hub: the name is all that is known
            continue
        for file in sorted(folder.iterdir()):
            if file.suffix in (".safetensors", ".bin") or file.name in ("config.json", "adapter_config.json"):
                size = file.stat().st_size
                digest.update(f"{file.name}\0{size}\0".encode())
                with file.open("rb") as stream:
                    digest.update(stream.read(_EDGE))
                    stream.seek(max(0, size - _EDGE))
                    digest.update(stream.read(_EDGE))
    return digest.hexdigest()[:16]
