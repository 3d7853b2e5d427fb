"""What the form of the Train page asks of the server: fields, values, checks, and the config of a new job."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.components import config_form
from app.jobs.devices import local_devices
from app.jobs.job import JobError
from app.jobs.queue import is_cpu
from app.services import DEFAULT_CHECKPOINT, Services
from wavalign.rewards.registry import REWARDS
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import RECIPES, recipes

Json = dict[str, Any]
FIRST_RECIPE = "wavalign"
CPU_SIZES: Json = {
    "steps": 120,
    "batch": 4,
    "micro_batch": 4,
    "evaluation": {"every": 30, "prompts": 32, "samples": 2, "spoken": 8, "kept": 6},
    "checkpoints": {"every": 30},
}
"""What a new form starts from where there is no GPU: a run of minutes."""
DEMO: Json = {
    "steps": 90,
    "batch": 4,
    "micro_batch": 4,
    "evaluation": {"every": 15, "prompts": 24, "samples": 2, "spoken": 6, "kept": 4},
    "checkpoints": {"every": 15},
}
DEMO_MINUTES = 3.0
_LONGEST = 100_000


@dataclass
class TrainForm:
    services: Services

    def described(self) -> Json:
        """Everything about the form that does not depend on what is typed."""
        return {
            "fields": [field.described() for field in config_form.fields()],
            "recipes": [{"name": name, "about": _about(path)} for name, path in recipes().items()],
            "recipe": FIRST_RECIPE,
            "bases": list(self.services.names()),
            "rewards": list(REWARDS),
            "launchers": list(self.services.launchers()),
            "devices": len(local_devices()),
            "demo": {"minutes": DEMO_MINUTES, "base": self._base()},
            "start": self.filled({"recipe": FIRST_RECIPE}),
        }

    def filled(self, message: Mapping[str, Any]) -> Json:
        """The form's values for a recipe, for typed YAML, or as they are: ``plain`` is what they stand for."""
        if isinstance(message.get("yaml"), str):
            plain, problems = config_form.from_yaml(message["yaml"][:_LONGEST])
            if plain is None:
                return {"problems": problems}
        else:
            plain = self.of_recipe(str(message.get("recipe")))
        return self.shown(plain)

    def shown(self, plain: Mapping[str, Any]) -> Json:
        return {"plain": dict(plain), "values": config_form.text_of(plain)}

    def of_recipe(self, name: str) -> Json:
        """A recipe's config as plain data, sized for this machine.

        Raises:
            JobError: when there is no such recipe.
        """
        if name not in recipes():
            raise JobError(f'There is no recipe "{name}".')
        plain: Json = yaml.safe_load(recipes()[name].read_text(encoding="utf-8"))
        plain = {**plain, "base": self._base()}
        if all(is_cpu(device) for device in local_devices()):
            plain = _under(plain, CPU_SIZES)
        return plain

    def checked(self, message: Mapping[str, Any]) -> Json:
        """What is wrong, by field; and where nothing is, the YAML and the command line of the same run."""
        config, problems = self._config(message)
        if config is None:
            return {"problems": problems}
        recipe = recipes().get(str(message.get("recipe")), RECIPES / f"{FIRST_RECIPE}.yaml")
        return {
            "problems": problems,
            "yaml": config_form.to_yaml(config),
            "command": config_form.command_line(config, recipe),
            "memory": self._memory(config)[0],
        }

    def wanted(self, message: Mapping[str, Any]) -> tuple[TrainConfig | None, dict[str, str], Json]:
        """The config and the rest of a new job; or what is wrong, by field."""
        config, problems = self._config(message, exporting=True)
        rest: Json = {}
        for name, kind, default in (
            ("minutes", float, None),
            ("processes", int, 1),
            ("priority", int, 0),
            ("patience", int, 0),
        ):
            typed = str(message.get(name) or "").strip()
            try:
                rest[name] = kind(typed) if typed else default
            except ValueError:
                whole = "A whole number" if kind is int else "A number"
                problems[name] = f"{whole} is needed, got {typed[:40]}."
        if "patience" in rest and rest["patience"] < 0:
            problems["patience"] = f"At least 0 is needed, got {rest['patience']}."
        rest["launcher"] = str(message.get("launcher") or self.services.launchers()[0])
        if config is not None and rest["launcher"] == "local" and (refused := self._memory(config)[1]):
            problems["memory"] = refused
        rest["notes"] = str(message.get("notes") or "")
        rest["parent"] = message.get("parent") if isinstance(message.get("parent"), str) else None
        rest["settings"] = {"stop_on_alarm": bool(message.get("stop_on_alarm")), "patience": rest.pop("patience", 0)}
        if rest["launcher"] == "hf-jobs":
            rest["settings"]["flavor"] = str(message.get("flavor") or "cpu-basic")
        if rest["launcher"] == "slurm" and message.get("partition"):
            rest["settings"]["slurm"] = {"slurm_partition": str(message["partition"])}
        return (None if problems else config), problems, rest

    def demo(self) -> TrainConfig:
        """WavAlign on the embedded model, sized to a few minutes of a CPU."""
        plain = yaml.safe_load(recipes()[FIRST_RECIPE].read_text(encoding="utf-8"))
        return TrainConfig.model_validate(_under({**plain, "name": "demo", "base": self._base()}, DEMO))

    def _config(self, message: Mapping[str, Any], exporting: bool = False) -> tuple[TrainConfig | None, dict[str, str]]:
        """``exporting``: the arena's votes are made a data set where they are asked for without a path."""
        plain, changes = message.get("plain"), message.get("changes")
        if not isinstance(plain, dict) or not isinstance(changes, dict) or len(json.dumps(plain)) > _LONGEST:
            raise JobError("That is not a form this page sends.")
        typed = {str(path): str(text)[:_LONGEST] for path, text in changes.items()}
        merged = config_form.merged(plain, typed)
        problems: dict[str, str] = {}
        if merged.get("data", {}).get("source") == "votes" and not merged["data"].get("path"):
            merged["data"]["path"] = self._votes(problems) if exporting else "votes-of-the-arena"
            # Battles of several turns are no pairs of replies; they must not keep the others from being learnt from.
            merged["data"].setdefault("unreadable", "skip")
        config, wrong = config_form.checked(merged)
        problems = {**wrong, **problems}
        if config is not None:
            problems |= self._about_files(config)
        return config, problems

    def _memory(self, config: TrainConfig) -> tuple[str, str]:
        """What the job takes at most, of what this machine has; and why it cannot run here, or nothing."""
        from wavalign.models.memory import total_bytes
        from wavalign.models.memory_estimate import in_words
        from wavalign.models.protocol import CheckpointError
        from wavalign.training.job_memory import job_memory, too_large

        device = "cpu" if all(is_cpu(each) for each in local_devices()) else "cuda"
        try:
            told = job_memory(config, self.services.registry.checkpoint(config.base), device)
            whole = total_bytes(device)
        except CheckpointError:
            return "", ""  # what is wrong with the base is said beside it
        except (OSError, RuntimeError, KeyError, ValueError):
            return "Memory: not known, the base's files do not tell enough.", ""
        words = f"Memory: {told.words()}. This {'machine' if device == 'cpu' else 'GPU'} has {in_words(whole)}."
        if told.total > whole >= told.held:
            words += " Lower micro_batch, rollouts.rows_at_once or rollouts.max_tokens if it runs out."
        return words, too_large(told, whole, config) if told.held > whole else ""

    def _about_files(self, config: TrainConfig) -> dict[str, str]:
        """What the schema cannot know: whether the base and the data are there."""
        problems = {}
        if config.assets is None and config.base not in self.services.names():
            known = ", ".join(self.services.names()) or "none"
            problems["base"] = f'There is no checkpoint "{config.base}"; there are: {known}.'
        path = config.data.path
        by_rule = sorted({"rule", "answer"} & {name for name, weight in config.rewards.weights.items() if weight > 0})
        if config.data.source == "votes" and config.method.samples and by_rule:
            problems["rewards.weights"] = (
                f"{' and '.join(by_rule)} can judge ClosedTalk's own questions only: for votes choose others, such as "
                "preference, judge or format."
            )
        if config.data.source == "jsonl" and path and not Path(path).expanduser().exists():
            problems["data.path"] = f"There is no file {path}."
        return problems

    def _votes(self, problems: dict[str, str]) -> str | None:
        """The arena's votes as a data set of this day, made when it is asked for."""
        from app.export import ExportError, export
        from app.export_rows import Selection

        folder = self.services.settings.home / "exports" / f"votes-{time.strftime('%Y%m%d-%H%M')}"
        if folder.is_dir():
            return str(folder)
        try:
            export(self.services.voting.store, folder, Selection(), ("preference",))
        except ExportError:
            if folder.is_dir():  # somebody else made it in this moment
                return str(folder)
            problems["data.source"] = (
                "There are no votes that may be used yet. Vote in the Arena, or choose other data."
            )
            return None
        return str(folder)

    def _base(self) -> str:
        names = self.services.names()
        return DEFAULT_CHECKPOINT if DEFAULT_CHECKPOINT in names or not names else names[0]


def _under(plain: Json, sizes: Json) -> Json:
    """``plain`` on top of ``sizes``."""
    result = json.loads(json.dumps(sizes))
    for name, value in plain.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = {**result[name], **value} if both else value
    return result


def _about(path: Path) -> str:
    """A recipe says what it is in the comment that it begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)
