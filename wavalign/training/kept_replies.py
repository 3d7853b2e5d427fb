"""Replies of a model that is not being trained, with their rewards, kept in a folder for runs that would draw the same.

<folder>/<settings>/<seed, prompts>.json.gz       the replies to the prompts of one step and process

DPO's pairs are made of the untrained model's replies: runs that differ in learning rate or gamma alone draw the same
ones, and so do those of words and of all tokens where a reward must hear the replies. A folder is for one state of the
model's weights, and of the codec and whatever else the rewards measure with.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wavalign.models.protocol import Rollout, TrainablePolicy
from wavalign.training.config import TrainConfig
from wavalign.training.examples import Example
from wavalign.training.rollouts import Group, Rewarded

_FORMAT = 2
"""Counted up when replies would be drawn or kept otherwise."""


class KeptReplies:
    """``group_size`` replies to each prompt, which end with their text where ``text_only``. ``folder`` is made when
    something is kept; several processes and runs may share it.
    """

    def __init__(
        self, folder: Path, config: TrainConfig, policy: TrainablePolicy, group_size: int, text_only: bool, device: str
    ) -> None:
        settings = {
            "format": _FORMAT,
            "base": config.base,
            "precision": config.precision,
            "device": device,
            "text_only": text_only,
            "rollouts": config.rollouts.model_dump(mode="json"),
            "rewards": config.rewards.model_dump(mode="json"),
            "group_size": group_size,
        }
        self.folder = folder / _hash(settings)
        self.policy = policy

    def load(self, examples: Sequence[Example], seed: int, first: int) -> tuple[Rewarded, float] | None:
        """The replies to ``examples`` with their rewards, and the seconds of CPU that these took; None where none are
        kept.

        What cannot be read counts as not kept. Of the rewards' spans nothing is kept, and no reply's sound or text.
        """
        prompts = [self.policy.encode_prompt(example.prompt) for example in examples]
        try:
            with gzip.open(self._path(examples, prompts, seed, first), "rt", encoding="utf-8") as file:
                found = json.load(file)
            groups = [
                Group(example, list(prompt), [_rollout(each) for each in rollouts])
                for example, prompt, rollouts in zip(examples, prompts, found["rollouts"], strict=True)
            ]
            return (
                Rewarded(
                    groups,
                    _array(found["combined"]),
                    {name: _array(rows) for name, rows in found["channel"].items()},
                    {name: _array(rows) for name, rows in found["parts"].items()},
                    {name: np.zeros(np.shape(rows), dtype=bool) for name, rows in found["parts"].items()},
                ),
                float(found["cpu_s"]),
            )
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError):
            return None

    def save(self, rewarded: Rewarded, seed: int, first: int, cpu_s: float) -> str | None:
        """Keeps replies whose rewards all came; others may come another time. Returns why they could not be written,
        for a run can do without that; None where nothing went wrong.
        """
        if any(each.any() for each in rewarded.failed.values()):
            return None
        examples = [group.example for group in rewarded.groups]
        path = self._path(examples, [group.prompt for group in rewarded.groups], seed, first)
        kept = {
            "cpu_s": cpu_s,
            "rollouts": [[_plain(rollout) for rollout in group.rollouts] for group in rewarded.groups],
            "combined": _rows(rewarded.combined),
            "channel": {name: _rows(rows) for name, rows in rewarded.channel.items()},
            "parts": {name: _rows(rows) for name, rows in rewarded.parts.items()},
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(gzip.compress(json.dumps(kept, separators=(",", ":")).encode(), mtime=0))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return str(error)
        return None

    def _path(self, examples: Sequence[Example], prompts: Sequence[Sequence[int]], seed: int, first: int) -> Path:
        asked = [
            [example.id, list(prompt), dict(example.facts)] for example, prompt in zip(examples, prompts, strict=True)
        ]
        return self.folder / f"{_hash({'seed': seed, 'first': first, 'asked': asked})}.json.gz"


def _hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _plain(rollout: Rollout) -> list[Any]:
    return [list(rollout.tokens), [float(value) for value in rollout.logprobs], bool(rollout.finished)]


def _rollout(plain: Sequence[Any]) -> Rollout:
    tokens, logprobs, finished = plain
    return Rollout(tuple(tokens), np.array(logprobs, dtype=np.float32), bool(finished))


def _rows(values: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(value) else float(value) for value in row] for row in values]


def _array(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=float)
