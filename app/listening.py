"""How much of a battle's replies was heard. The client's reports are claims: time bounds what they can be worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.battles import Round, Rules, Side


class PlaybackError(ValueError):
    """A playback report that is not one; the message is one sentence."""


@dataclass(frozen=True)
class Played:
    """A claim: ``start``..``end`` of one side's audio (seconds from its first sample) was played, told at ``at``."""

    side: Side
    start: float
    end: float
    at: float

    @classmethod
    def of(cls, side: Any, start: Any, end: Any, at: float, longest: float) -> Played:
        """What came from outside, checked; ``longest`` is the length of the audio file in seconds.

        Raises:
            PlaybackError: for anything but a side and a stretch of its audio.
        """
        if side not in ("left", "right"):
            raise PlaybackError("A playback report names the side: left or right.")
        numbers = [each for each in (start, end) if isinstance(each, int | float) and not isinstance(each, bool)]
        if len(numbers) != 2 or not all(math.isfinite(each) for each in numbers):
            raise PlaybackError("A playback report has a start and an end in seconds.")
        if not 0 <= start <= end <= longest + 0.5:
            raise PlaybackError("A playback report lies within the reply.")
        return cls(side, float(start), float(end), at)


@dataclass(frozen=True)
class Heard:
    """One reply: ``heard`` of ``needed`` seconds. ``turn`` counts from 0."""

    turn: int
    side: Side
    heard: float
    needed: float

    @property
    def enough(self) -> bool:
        return self.heard >= self.needed - 1e-6


@dataclass(frozen=True)
class Listening:
    """``impossible``: reports that claim more playback than there was time for; they are worth nothing."""

    replies: tuple[Heard, ...] = ()
    ready_at: float = math.inf
    """Before this no honest client can have heard enough: delivery plus what has to be heard."""
    impossible: tuple[Played, ...] = field(default=())

    def share(self, side: Side) -> float:
        """Of what must be heard of this side, over all turns, the share that was: 0..1."""
        replies = [each for each in self.replies if each.side == side]
        needed = sum(each.needed for each in replies)
        heard = sum(min(each.heard, each.needed) for each in replies)
        return heard / needed if needed else float(bool(replies))

    def missing(self, now: float) -> str | None:
        """What is left to hear as one sentence, or None."""
        unheard = [each for each in self.replies if not each.enough]
        if unheard:
            names = {"left": "A", "right": "B"}
            sides = " and ".join(sorted({names[each.side] for each in unheard}))
            return f"Listen to {sides} first, then vote."
        if now < self.ready_at:
            return "Listen to both replies first, then vote."
        return None


def listening(rounds: Sequence[Round], rules: Rules) -> Listening:
    """Adds up the reports in the order they came.

    Only one side sounds at a time, so what all reports since a delivery claim together cannot exceed the time since
    that delivery (plus ``rules.clock_slack``). The first report that does, and it alone, is impossible and left out.
    """
    replies: list[Heard] = []
    impossible: list[Played] = []
    budget_starts = [min(each.delivered.values()) for each in rounds if each.delivered]
    if not budget_starts:
        return Listening()
    claims = sorted(
        ((played.at, turn, played) for turn, each in enumerate(rounds) for played in each.played),
        key=lambda claim: claim[0],
    )
    believed: list[tuple[int, Played]] = []
    spent_since = dict.fromkeys(range(len(rounds)), 0.0)
    for at, turn, played in claims:
        length = played.end - played.start
        # A claim about a turn is bounded by the time since that turn, together with all claims made since then.
        since = min(rounds[turn].delivered.values())
        if spent_since[turn] + length > at - since + rules.clock_slack:
            impossible.append(played)
            continue
        for earlier in spent_since:
            if rounds[earlier].delivered and min(rounds[earlier].delivered.values()) < at:
                spent_since[earlier] += length
        believed.append((turn, played))
    needed_total = 0.0
    ready_at = 0.0
    for turn, each in enumerate(rounds):
        if not each.delivered:
            continue
        needed = {side: rules.needed(seconds) for side, seconds in each.replies.items()}
        needed_total += sum(needed.values())
        ready_at = max(ready_at, min(each.delivered.values()) + sum(needed.values()) - rules.clock_slack)
        for side in needed:
            stretches = [(p.start, p.end) for number, p in believed if number == turn and p.side == side]
            replies.append(Heard(turn, side, covered(stretches), needed[side]))
    ready_at = max(ready_at, budget_starts[0] + needed_total - rules.clock_slack)
    return Listening(tuple(replies), ready_at, tuple(impossible))


def covered(stretches: Iterable[tuple[float, float]]) -> float:
    """Seconds covered by the union: what was heard twice counts once."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(stretches):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
