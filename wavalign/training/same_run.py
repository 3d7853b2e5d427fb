"""What may change in a run's config and data between two of its starts, and what may not: it is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wavalign.training.config import ConfigError, TrainConfig

MAY_CHANGE = (
    "name",
    "assets",
    "steps",
    "micro_batch",
    "gradient_checkpointing",
    "packing",
    "parallel",
    "evaluation",
    "checkpoints",
    "limits",
    "tensorboard",
    "trackio",
    "data.path",
    "data.pool",
    "rewards.cache",
    "rewards.preference.path",
    *(f"rewards.judge.{field}" for field in ("url", "api_key_env", "concurrency", "timeout_s", "attempts")),
    *(f"rewards.judge.{field}" for field in ("backoff_s", "longest_wait_s")),
    "rollouts.rows_at_once",
    *(f"rollouts.server.{field}" for field in ("url", "key_env", "adapters", "adapters_there", "at_once")),
    *(f"rollouts.server.{field}" for field in ("attempts", "backoff_s", "timeout_s")),
)
"""Fields, or whole blocks, that change where, how fast or how long a run trains, or what is seen of it. Of the files
that these paths name nothing is known but which examples the data have, by their ids."""


NOT_COMPARED = (
    "its last checkpoint was saved by another version and does not say all that it was made with, so {what} could not "
    "be compared. If they were changed meanwhile, what comes now is another run."
)


def refuse_another(saved: Mapping[str, Any] | None, config: TrainConfig) -> bool:
    """``saved`` is the config, as plain data, with which the run's checkpoint was written; None where it is not known.

    Returns whether the two were compared: not where none is known, or it is one of a version with other fields.

    Raises:
        ConfigError: when ``config`` would train another run, naming what changed.
    """
    try:
        begun = TrainConfig.model_validate(saved)
    except ValueError:
        return False
    before, now = (dict(_leaves(each.model_dump(mode="json"))) for each in (begun, config))
    paths = dict.fromkeys([*before, *now])
    changed = [path for path in paths if before.get(path) != now.get(path) and not _may_change(path)]
    if changed:
        told = "; ".join(
            f"{path} was {_shown(before.get(path))} and is {_shown(now.get(path))}" for path in changed[:3]
        )
        more = f"; and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise ConfigError(
            f"The run was begun with other settings: {told}{more}. "
            "Set its config.yaml back, or start a new run from it."
        )
    return True


def data_state(ids: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint remembers of its data: how many examples, and which ones in which order."""
    return {"examples": len(ids), "ids": hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()}


def refuse_other_data(saved: Mapping[str, Any], ids: Sequence[str]) -> bool:
    """``saved`` is the state of the run's checkpoint; ``ids`` are those of the examples that it would go on with.

    Returns whether they were compared: older checkpoints know their number only, or nothing.

    Raises:
        ConfigError: when they are others, or stand in another order.
    """
    now = data_state(ids)
    if saved.get("examples", now["examples"]) != now["examples"]:
        found = f"{saved['examples']} examples, and its data have {now['examples']} now"
    elif saved.get("ids", now["ids"]) != now["ids"]:
        found = "examples with other ids, or in another order (rows without ids go by their file's name and line)"
    else:
        return "ids" in saved
    raise ConfigError(f"The run was begun on {found}. Make the data as they were, or start a new run.")


def _may_change(path: str) -> bool:
    return any(path == field or path.startswith(f"{field}.") for field in MAY_CHANGE)


def _leaves(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
