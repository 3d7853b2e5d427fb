"""What a rater is given, step by step. Nothing in here names a checkpoint before ``Reveal``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.battles import Outcome, Side, Stage


@dataclass(frozen=True)
class UserTurn:
    """What the rater asked: ``words`` as typed or as heard; ``audio`` wav bytes of a spoken turn."""

    words: str
    audio: bytes | None = None


@dataclass(frozen=True)
class Opened:
    """A battle whose replies are ready. ``turn`` counts the user turns so far from 0; ``repeat``: asked earlier."""

    battle: str
    turn: int
    turns_left: int
    repeat: bool = False


@dataclass(frozen=True)
class Delivered:
    """One turn's two replies: wav bytes of equal length, made for this battle alone, and the words of each side."""

    turn: int
    user: UserTurn
    audio: Mapping[Side, bytes]
    text: Mapping[Side, str]
    seconds: float
    """Length of both files."""


@dataclass(frozen=True)
class Progress:
    """Where a battle stands. ``heard`` per side: share 0..1 of what must be heard, over all turns."""

    battle: str
    stage: Stage
    may_vote: bool
    missing: str | None
    """What is left to do before the vote, one sentence; None when the vote is open."""
    wait_seconds: float
    """Until the vote can open at the earliest: time has to pass for the replies to be heard."""
    heard: Mapping[Side, float]
    turns: int
    turns_left: int
    undo_seconds: float = 0.0
    """Left to undo a vote; 0 when there is none or it stands."""


@dataclass(frozen=True)
class Receipt:
    """The vote is on disk. ``receipt`` names it from now on; ``reveal_at``: server time (s) when names may be shown."""

    battle: str
    receipt: str
    reveal_at: float
    undo_seconds: float
    votes: int
    """How many votes of this rater stand, this one included."""


@dataclass(frozen=True)
class RevealedSide:
    """``measures``: numbers by name, those of ``app.conversation.Figures`` and ``words``, ``seconds``, ``loudness``."""

    checkpoint: str
    measures: tuple[Mapping[str, float], ...]
    """One a turn."""


@dataclass(frozen=True)
class Reveal:
    receipt: str
    left: RevealedSide
    right: RevealedSide
    outcome: Outcome
    strength: int
    kind: str
    """ordinary, gold (one side was spoilt on purpose) or repeat (heard before, sides swapped)."""
    counted: bool
    excluded: str | None
    """Why the vote does not count on the board, when it does not."""


@dataclass(frozen=True)
class MyVote:
    """One line of "My votes"."""

    receipt: str
    battle: str
    at: float
    left: str
    right: str
    outcome: Outcome
    strength: int
    helpfulness: int | None
    naturalness: int | None
    reason: str | None
    words: str
    """What was asked first."""
    status: str
    """counted, pending, retracted, or "not counted: ..." with the reason."""
    may_retract: bool


@dataclass(frozen=True)
class Erased:
    """What ``erase`` removed."""

    battles: int
    recordings: int


@dataclass(frozen=True)
class Failure:
    """A battle that became void, for the host: which checkpoint failed, how."""

    battle: str
    at: float
    checkpoint: str | None
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    was_stopped: bool = False
    """Nothing failed: the rater stopped it."""
