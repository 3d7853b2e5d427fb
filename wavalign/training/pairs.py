"""Preference pairs from sampled replies: the best against the worst of a prompt (method 3.2.3 of arXiv 2604.14932).

Each of (by default) 8 replies has a semantic and an acoustic score from 1 to 5; its utility is
u = w s_sem + (1 - w) s_ac with w = 0.5 (eq. 13). The highest utility is chosen and the lowest rejected (eqs. 14, 15),
and the pair is kept when their gap is at least 0.5 (eq. 16). Ties go to the higher semantic, then acoustic score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

_ROUNDING = 1e-9
"""Weighted means such as 3.5 - 3.0 come out a hair below their value; a gap of exactly the least one counts."""


class PairConfig(BaseModel):
    """How a prompt's samples become one preference pair."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    samples: int = Field(8, ge=2, description="replies drawn for each prompt")
    semantic_weight: float = Field(0.5, ge=0, le=1, description="of the utility; the rest is acoustic")
    least_gap: float = Field(0.5, ge=0, le=4, description="a pair whose utilities are nearer is left out")


@dataclass(frozen=True)
class Pair:
    """``chosen`` and ``rejected`` are places in the list of replies; ``gap`` is the difference of their utilities."""

    chosen: int
    rejected: int
    gap: float


def best_against_worst(
    semantic: Sequence[float | None], acoustic: Sequence[float | None], config: PairConfig | None = None
) -> Pair | None:
    """The pair of one prompt's replies; None when it teaches nothing: fewer than two scored replies, or too near.

    A reply with a failed score (None) that the utility needs is in no pair. Replies that tie in everything go by
    their place, the first one chosen and the last one rejected.
    """
    config = config or PairConfig()
    weight = config.semantic_weight
    ranked: list[tuple[float, float, float, int]] = []
    for place, (meaning, sound) in enumerate(zip(semantic, acoustic, strict=True)):
        # A channel without weight may have no scores at all; as a tie-break it then counts as equal.
        if (meaning is None and weight > 0) or (sound is None and weight < 1):
            continue
        meaning, sound = meaning or 0.0, sound or 0.0
        utility = round(weight * meaning + (1 - weight) * sound, 9)
        ranked.append((utility, meaning, sound, -place))
    if len(ranked) < 2:
        return None
    best, worst = max(ranked), min(ranked)
    gap = best[0] - worst[0]
    if gap <= 0 or gap < config.least_gap - _ROUNDING:
        return None
    return Pair(-best[3], -worst[3], gap)
