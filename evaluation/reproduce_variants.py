"""What is compared: recipes by name, and changes of them.

wavalign                                    the recipe as it ships
wavalign@mix.alpha=0.5,rollouts.group_size=4  the same with other values
hybrid-fixed@mix.rl=mean(wavalign)          the constant that the dynamic run of the same seed had on average
alpha-0.5                                   a variant that has a name (NAMED)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from wavalign.training.config import HybridMethod, PreferenceMethod, TrainConfig
from wavalign.training.config_files import recipes

MAIN = ("sft", "wavalign", "grpo-text", "hybrid-fixed", "grpo-all", "alpo-anchored", "alpo", "dpo-text", "dpo-all")
"""In the order in which a table is most useful early."""
ABLATIONS = (
    "wavalign",
    "hybrid-fixed",
    "fixed-at-mean",
    "no-ema",
    "all-dynamic",
    "all-fixed",
    "alpha-0.5",
    "alpha-0.99",
    "group-4",
    "group-4-no-ema",
    "held",
)
NAMED: dict[str, str] = {
    "fixed-at-mean": "hybrid-fixed@mix.rl=mean(wavalign)",
    "fixed-0.3": "hybrid-fixed@mix.rl=0.3",
    "no-ema": "wavalign@mix.alpha=0",
    "alpha-0.5": "wavalign@mix.alpha=0.5",
    "alpha-0.99": "wavalign@mix.alpha=0.99",
    "all-dynamic": "wavalign@preference.scope=all",
    "all-fixed": "hybrid-fixed@preference.scope=all",
    "group-4": "wavalign@rollouts.group_size=4",
    "group-4-no-ema": "wavalign@rollouts.group_size=4,mix.alpha=0",
    "held": "wavalign@preference.kl_text=0.01,preference.kl_speech=0.01",
    "wavalign-full": "wavalign@tuning.kind=full,lr=1.5e-4",
    "sft-full": "sft@tuning.kind=full,lr=1.5e-4",
}
"""Variants with names of their own: the paper's ablations, the constant it lacks, its divergence from the reference,
and all weights instead of LoRA (at a smaller learning rate)."""
LORA = ("wavalign", "wavalign-full", "sft", "sft-full")
RATES = (
    *(f"{recipe}@lr={rate}" for recipe in MAIN for rate in ("3e-4", "1e-3", "3e-3")),
    "dpo-text@lr=1e-4",
    "dpo-all@lr=1e-4",
)
"""What is tried on validation prompts; DPO, whose speech is best at the lowest rate of all, at a lower one too."""
EQUAL_TIME = (
    "sft@steps=500",
    "dpo-text@steps=40",
    "dpo-all@steps=40",
    "grpo-text@steps=206",
    "grpo-all@steps=82",
    "hybrid-fixed",
    "wavalign",
    "alpo@steps=34",
    "alpo-anchored@steps=54",
)
"""As many updates of each as take the time of 200 of ``wavalign``, by 16 updates of each on one machine."""
SETS: dict[str, tuple[str, ...]] = {
    "main": MAIN,
    "ablations": ABLATIONS,
    "lora": LORA,
    "rates": RATES,
    "equal-time": EQUAL_TIME,
}
SHORT = {"mix.ema": "method.mix.alpha", "lr": "optimiser.lr", "group": "rollouts.group_size"}
_OVERRIDE = re.compile(r",(?=[A-Za-z_][A-Za-z0-9_.]*=)")
_MEAN = re.compile(r"mean\(([^()]+)\)")


class ReproduceError(ValueError):
    """A comparison that cannot be made as asked; the message is one sentence."""


@dataclass(frozen=True)
class Variant:
    """A recipe with ``overrides`` (``field=value``, whole paths). ``mean_of`` names the variant whose mean lambda
    stands where an override says ``mean(...)``."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    mean_of: str | None = None

    @property
    def slug(self) -> str:
        """A folder's and a run's name: the name itself where that is allowed, else one that no other variant has."""
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}", self.name):
            return self.name
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.")[:40]
        return f"{readable}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    def resolved(self, mean_lambda: float | None) -> list[str]:
        """The overrides with the mean filled in.

        Raises:
            ReproduceError: when it is needed and not known.
        """
        if self.mean_of is None:
            return list(self.overrides)
        if mean_lambda is None:
            raise ReproduceError(f"{self.name} takes the mean lambda of {self.mean_of}, which has not run; run it too.")
        return [_MEAN.sub(f"{mean_lambda:.4f}", override) for override in self.overrides]


def variant(name: str) -> Variant:
    """The variant that ``name`` says.

    Raises:
        ReproduceError: when there is no such recipe, or a change is not ``field=value``.
    """
    recipe, at, changes = NAMED.get(name, name).partition("@")
    if recipe not in recipes():
        known = ", ".join([*recipes(), *NAMED])
        raise ReproduceError(f'There is no recipe "{recipe}". The recipes and named variants are: {known}.')
    if at and not changes:
        raise ReproduceError(f'"{name}" names no change after the @; write recipe@field=value.')
    overrides = tuple(_whole_path(change, name) for change in (_OVERRIDE.split(changes) if changes else ()))
    means = {match for override in overrides for match in _MEAN.findall(override)}
    if len(means) > 1:
        raise ReproduceError(f'"{name}" takes the mean of several variants; one is allowed.')
    return Variant(name, recipe, overrides, next(iter(means), None))


def variants(names: Sequence[str]) -> list[Variant]:
    """Variants of names and sets of names, once each, the ones whose mean another takes before it."""
    flat = [each for name in names for each in SETS.get(name, (name,))]
    found: dict[str, Variant] = {}
    for name in flat:
        own = variant(name)
        if own.mean_of is not None and own.mean_of not in found:
            found[own.mean_of] = variant(own.mean_of)
        found.setdefault(name, own)
    return list(found.values())


def tuned_values(path: Path) -> dict[str, tuple[str, ...]]:
    """What validation chose, from a YAML file of ``recipe: [field=value, ...]``.

    Raises:
        ReproduceError: when the file cannot be read, or holds something else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ReproduceError(f"The tuned values {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not all(isinstance(v, list) and v for v in found.values()):
        raise ReproduceError(f"{path} does not hold tuned values; write lines like  sft: [optimiser.lr=3e-4]")
    unknown = sorted(set(found) - set(recipes()))
    if unknown:
        raise ReproduceError(f"{path} has values for {', '.join(unknown)}, which is no recipe.")
    return {recipe: tuple(_whole_path(str(change), recipe) for change in changes) for recipe, changes in found.items()}


def _whole_path(change: str, name: str) -> str:
    key, equals, value = change.partition("=")
    if not equals or not key.strip():
        raise ReproduceError(f'"{change}" in "{name}" is not a change; write field=value.')
    key = SHORT.get(key.strip(), key.strip())
    head = key.partition(".")[0]
    of_method: Mapping[str, object] = {**HybridMethod.model_fields, **PreferenceMethod.model_fields}
    if head not in TrainConfig.model_fields and head in of_method:
        key = f"method.{key}"
    return f"{key}={value}"
