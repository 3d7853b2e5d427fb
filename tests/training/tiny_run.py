"""Assets of a few kilobytes to train on: a random base, its codec, and ClosedTalk dialogues in its 64 codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import tests.training.letters  # noqa: F401  (makes the reward known)
from tests import tiny
from wavalign.closedtalk.dataset import DialogueRow, TurnRow, write_dialogues
from wavalign.closedtalk.deliveries import Delivery
from wavalign.closedtalk.delivery import DeliveryReferences, Reference
from wavalign.closedtalk.world import all_items, answer, family_of
from wavalign.metrics.recogniser import Recogniser
from wavalign.rewards.registry import RECOGNISER_FOLDER, REFERENCES_FILE
from wavalign.training.config import TrainConfig
from wavalign.training.config_files import load_config, make_config, recipes

SMALL: dict[str, Any] = {
    "base": "tiny-base",
    "steps": 2,
    "batch": 2,
    "micro_batch": 1,
    "precision": "float32",
    "rollouts": {"group_size": 3, "spoken": None, "max_tokens": 40, "max_seconds": 2.0},
    "tuning": {"kind": "lora", "rank": 4, "alpha": 8},
    "evaluation": {"every": 0},
    "checkpoints": {"every": 2},
}


def make_assets(folder: Path) -> Path:
    base = tiny.make_tiny_checkpoint(folder / "tiny-base")
    tiny.make_tiny_adapter(folder / "tiny-tuned", base)
    for split, count, seed in (("post_training", 8, 0), ("validation", 4, 1)):
        write_dialogues(folder / "closedtalk-data" / f"{split}.parquet", _dialogues(split, count, seed))
    torch.manual_seed(0)
    Recogniser(list(tiny.WORDS), channels=16, blocks=1).save_pretrained(str(folder / RECOGNISER_FOLDER))
    spread = np.array([0.1, 1.0, 0.1, 2.0])
    means = np.random.default_rng(3).normal([5.0, 3.0, -2.5, -20.0], 2 * spread, (len(Delivery), 4))
    references = {delivery: Reference(mean, spread, 9) for delivery, mean in zip(Delivery, means, strict=True)}
    DeliveryReferences(references).save(folder / REFERENCES_FILE)
    return folder


def _dialogues(split: str, count: int, seed: int) -> list[DialogueRow]:
    rng = np.random.default_rng(seed)
    items = [item for item in all_items() if item.family == "add"]
    rows = []
    for index in range(count):
        item = items[int(rng.integers(len(items)))]
        words = answer(item)
        turn = TurnRow(
            text=family_of(item).asked(item.slots, False)[0],
            tone="plain",
            item=item.id,
            family=item.family,
            kind="question",
            requested=None,
            delivery="neutral",
            answer=words,
            demonstration=words,
            user_codes=tuple(int(c) for c in rng.integers(0, tiny.CODES, int(rng.integers(5, 12)))),
            reply_codes=tuple(int(c) for c in rng.integers(0, tiny.CODES, int(rng.integers(24, 34)))),
        )
        rows.append(DialogueRow(split, index, f"{split}{index}", "seen", False, "espeak", "voice", (turn,)))
    return rows


def small(recipe: str | None = None, **changes: Any) -> TrainConfig:
    """A recipe, or the default method, at test size; ``changes`` are fields of the config, blocks merged in."""
    plain = load_config(recipes()[recipe]).model_dump(mode="json", exclude_unset=True) if recipe else {}
    weights = dict(plain.get("rewards", {}).get("weights", {}))
    weights.pop("answer", None)
    plain["rewards"] = {"weights": {"letters": 1.0, **weights}}
    return make_config(_merged(_merged(plain, SMALL), changes))


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(under)
    for name, value in over.items():
        inner = result.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        same_kind = both and value.get("kind", inner.get("kind")) == inner.get("kind")
        result[name] = _merged(inner, value) if both and same_kind else value
    return result
