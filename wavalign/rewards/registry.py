"""The rewards there are, by name, and what they share. A new reward is one file and one line here."""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavalign.rewards.protocol import Reward, RewardError

if TYPE_CHECKING:
    from wavalign.closedtalk.delivery import DeliveryReferences
    from wavalign.metrics.recogniser import Recogniser
    from wavalign.models.interleaved import Base
    from wavalign.rewards.config import RewardConfig

REWARDS: dict[str, str] = {
    "rule": "wavalign.rewards.rule:Rule",
    "answer": "wavalign.rewards.answer:RightAnswer",
    "delivery": "wavalign.rewards.delivery:DeliveryReward",
    "intelligibility": "wavalign.rewards.intelligibility:Intelligibility",
    "pronunciation": "wavalign.rewards.pronunciation:Pronunciation",
    "format": "wavalign.rewards.format:Format",
    "preference": "wavalign.rewards.preference:PreferenceReward",
    "judge": "wavalign.rewards.judge:holistic",
    "judge_semantic": "wavalign.rewards.judge:semantic",
    "judge_acoustic": "wavalign.rewards.judge:acoustic",
}
"""Name -> "module:callable" that takes (config, context) and gives a ``Reward``. Imported when it is asked for."""

RECOGNISER_FOLDER = "closedtalk-recogniser"
REFERENCES_FILE = "closedtalk-references.json"


@dataclass
class RewardContext:
    """What rewards measure with, loaded from ``assets`` when the first of them asks.

    ``home`` holds further checkpoints and reward models. ``stop`` is for another thread to set when a run must end:
    rewards that wait for somebody give up. ``base`` is the run's own base, where it stays as it is below an adapter.
    """

    assets: Path
    stop: threading.Event = field(default_factory=threading.Event)
    home: Path | None = None
    base: Base | None = None

    @cached_property
    def recogniser(self) -> Recogniser:
        from wavalign.metrics.recogniser import Recogniser

        folder = self.assets / RECOGNISER_FOLDER
        if not (folder / "config.json").is_file():
            raise RewardError(f"There is no recogniser in {folder}. Build it, or restore the assets.")
        return Recogniser.from_pretrained(str(folder)).eval()

    @cached_property
    def references(self) -> DeliveryReferences:
        from wavalign.closedtalk.delivery import DeliveryError, DeliveryReferences

        try:
            return DeliveryReferences.load(self.assets / REFERENCES_FILE)
        except DeliveryError as error:
            raise RewardError(str(error)) from error


def build(name: str, config: RewardConfig, context: RewardContext) -> Reward:
    """The reward called ``name``.

    Raises:
        RewardError: when there is none, or what it measures with is missing.
    """
    if name not in REWARDS:
        raise RewardError(f'There is no reward "{name}"; the rewards are: {", ".join(REWARDS)}.')
    module, _, attribute = REWARDS[name].partition(":")
    factory: Any = getattr(importlib.import_module(module), attribute)
    return factory(config, context)
