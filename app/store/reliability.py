"""How far each rater's votes can be relied on: gold battles seen through, repeats answered alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.store.queries import VoteRecord

#: A rater of whom nothing is known is taken to be right four times in five.
_PRIOR = (4.0, 5.0)


@dataclass(frozen=True)
class Reliability:
    """``gold`` of ``golds`` spoilt sides were not preferred; ``alike`` of ``repeats`` went to the same reply again."""

    gold: int = 0
    golds: int = 0
    alike: int = 0
    repeats: int = 0

    @property
    def score(self) -> float:
        """Posterior mean of the share that is as it should be, 0..1."""
        return (_PRIOR[0] + self.gold + self.alike) / (_PRIOR[1] + self.golds + self.repeats)


def reliabilities(votes: Iterable[VoteRecord]) -> dict[str, Reliability]:
    """Of every rater of these votes (gold battles and repeats included); votes that were taken back say nothing.

    Ties say nothing about a repeat.
    """
    votes = list(votes)
    counts: dict[str, list[int]] = {vote.rater: [0, 0, 0, 0] for vote in votes}
    standing = [vote for vote in votes if vote.excluded not in ("erased", "retracted", "consent")]
    by_battle: Mapping[str, VoteRecord] = {vote.battle: vote for vote in standing}
    for vote in standing:
        count = counts[vote.rater]
        if vote.kind == "gold":
            count[0] += vote.outcome in ("left", "right") and vote.outcome != vote.gold_side
            count[1] += 1
        earlier = by_battle.get(vote.repeat_of or "")
        if earlier is not None and vote.strength and earlier.strength:
            count[2] += (vote.strength > 0) != (earlier.strength > 0)  # the sides were swapped
            count[3] += 1
    return {rater: Reliability(*count) for rater, count in counts.items()}
