"""What a reward is: something that gives sampled replies a number from 1 to 5, or says that it could not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from wavalign.audio import Waveform
from wavalign.training.examples import Example

LOWEST, HIGHEST = 1.0, 5.0

Judged = Literal["text", "speech", "both", "format"]


@dataclass(frozen=True)
class Answer:
    """One sampled reply to ``example``.

    ``text`` is the text channel; ``waveform`` the decoded speech channel, None when no reward needs audio or when
    nothing was spoken. ``finished`` is False when the reply was cut at the token limit; ``well_formed`` is False when
    its tokens break the model's layout. ``cut`` replies were sampled to the end of their text only: no reward that
    needs audio is asked about them. ``step`` is the update it was sampled for, from 0; None outside of a run's updates.
    """

    example: Example
    text: str
    waveform: Waveform | None
    finished: bool
    well_formed: bool = True
    cut: bool = False
    step: int | None = None


@dataclass(frozen=True)
class Span:
    """What was heard from ``start`` to ``end`` seconds deserves ``score``, 1 to 5; ``label`` is what it should be."""

    start: float
    end: float
    score: float
    label: str = ""


@dataclass(frozen=True)
class Timed:
    """A score, 1 to 5, of a whole reply, and of its parts in the order of time.

    Where credit goes by words, a reply without parts teaches nothing.
    """

    value: float
    spans: tuple[Span, ...] = ()


Score = float | Timed | None


class Reward(Protocol):
    """Scores sampled replies. ``channel`` is what it judges, by which ALPO routes its advantage to tokens.

    One that has the attribute ``timed``, True, gives ``Timed`` scores and no plain ones.
    """

    name: str
    needs_audio: bool
    channel: Judged

    def score(self, answers: Sequence[Answer]) -> Sequence[Score]:
        """One score for each answer: 1 (worst) to 5, or None where it failed. A bad reply is 1, never None."""


class RewardError(RuntimeError):
    """A reward that cannot be built or used; the message is one sentence."""


def checked(score: Score) -> float | None:
    """The score where it is a number from 1 to 5, its parts too; None, a failure, where it is anything else."""
    if isinstance(score, Timed):
        if not all(LOWEST <= s.score <= HIGHEST and 0 <= s.start <= s.end < math.inf for s in score.spans):
            return None
        score = score.value
    return score if score is not None and math.isfinite(score) and LOWEST <= score <= HIGHEST else None
