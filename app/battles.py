"""A blind battle as a value: what happened so far, and what may happen next. Knows no page and no database.

    created -> asked -> replies stored -> released -> delivered -> voted -> revealed
                 ^_____________another turn_______________|  ^_undo__|

A battle is void when a side fails, and expires when nobody votes. Its stage is a function of the facts, never stored.
Strengths and dimensions count from the left side: positive says that the left side is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from app.listening import Listening, Played, listening

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
Outcome = Literal["left", "right", "tie", "both_bad"]
BOTH_BAD = "both_bad"
STOPPED = "Stopped: this battle does not count."


class BattleError(ValueError):
    """A step that this battle cannot take. The message is one sentence for the rater; ``code`` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stage(StrEnum):
    CREATED = "created"
    ASKED = "asked"
    STORED = "stored"
    RELEASED = "released"
    DELIVERED = "delivered"
    VOTED = "voted"
    REVEALED = "revealed"
    VOID = "void"
    EXPIRED = "expired"


@dataclass(frozen=True)
class Rules:
    """Seconds unless the name says otherwise."""

    undo: float = 8.0
    expiry: float = 2 * 3600.0
    """Counted from the last turn."""
    turns: int = 6
    """At most this many user turns in a battle."""
    listen_least: float = 3.0
    listen_share: float = 0.6
    """Of each reply, this share must have been heard and at least ``listen_least``; a shorter one, whole."""
    clock_slack: float = 0.75
    """How much more playback than time a client may claim: timers of browsers and the network are not exact."""
    reports: int = 2_000
    """At most this many playback reports a battle."""
    reason_characters: int = 500
    ballots: int = 12
    """At most this many votes on one battle: the last one cannot be undone."""

    def needed(self, seconds: float) -> float:
        """How much of a reply of that length has to be heard; a blink less than all of it, for players that round."""
        return max(0.0, min(seconds - 0.15, max(self.listen_least, self.listen_share * seconds)))


@dataclass(frozen=True)
class Ballot:
    """What a rater says. ``strength`` -3..3: 3 left much better, 0 no difference, -3 right much better.

    ``both_bad`` is an outcome of its own, with strength 0. ``helpfulness`` and ``naturalness`` are -1, 0, 1 or None.
    """

    strength: int
    both_bad: bool = False
    helpfulness: int | None = None
    naturalness: int | None = None
    reason: str | None = None

    @property
    def outcome(self) -> Outcome:
        if self.both_bad:
            return BOTH_BAD
        return "tie" if self.strength == 0 else "left" if self.strength > 0 else "right"

    @classmethod
    def of(
        cls,
        choice: object,
        helpfulness: object = None,
        naturalness: object = None,
        reason: object = None,
        rules: Rules | None = None,
    ) -> Ballot:
        """What came from outside, checked: ``choice`` is a whole number -3..3 or ``"both_bad"``.

        Raises:
            BattleError: code ``ballot``, when it is anything else.
        """
        both_bad = isinstance(choice, str) and choice == BOTH_BAD
        return cls(
            strength=0 if both_bad else _whole("The choice", choice, 3),
            both_bad=both_bad,
            helpfulness=None if helpfulness is None else _whole("Helpfulness", helpfulness, 1),
            naturalness=None if naturalness is None else _whole("Naturalness", naturalness, 1),
            reason=_reason(reason, (rules or Rules()).reason_characters),
        )


@dataclass(frozen=True)
class Round:
    """One user turn and what became of it. ``replies`` holds each stored reply's seconds of speech."""

    asked_at: float
    replies: Mapping[Side, float] = field(default_factory=dict)
    released_at: float | None = None
    delivered: Mapping[Side, float] = field(default_factory=dict)
    played: tuple[Played, ...] = ()


@dataclass(frozen=True)
class Cast:
    """A vote that was cast; ``number`` is 1 for the first, one more after every undo."""

    number: int
    ballot: Ballot
    at: float
    undone_at: float | None = None
    retracted_at: float | None = None


@dataclass(frozen=True)
class Battle:
    """The facts. Every step returns a new battle or raises ``BattleError``; times are the server's, in seconds."""

    id: str
    rater: str
    created_at: float
    rounds: tuple[Round, ...] = ()
    casts: tuple[Cast, ...] = ()
    revealed_at: float | None = None
    void: str | None = None
    erased: bool = False

    @property
    def standing(self) -> Cast | None:
        """The vote that counts: the last one, unless it was undone."""
        return self.casts[-1] if self.casts and self.casts[-1].undone_at is None else None

    def expires_at(self, rules: Rules) -> float:
        last = self.rounds[-1] if self.rounds else None
        return rules.expiry + max(self.created_at, last.asked_at if last else 0.0, (last and last.released_at) or 0.0)

    def stage(self, now: float, rules: Rules) -> Stage:
        if self.void is not None:
            return Stage.VOID
        if self.revealed_at is not None:
            return Stage.REVEALED
        if self.standing is not None:
            return Stage.VOTED
        if now > self.expires_at(rules):
            return Stage.EXPIRED
        if not self.rounds:
            return Stage.CREATED
        last = self.rounds[-1]
        if len(last.delivered) == 2:
            return Stage.DELIVERED
        if last.released_at is not None:
            return Stage.RELEASED
        return Stage.STORED if last.replies else Stage.ASKED

    def listening(self, rules: Rules) -> Listening:
        """How much of every reply was heard, as far as the server believes it."""
        return listening(self.rounds, rules)

    def asked(self, now: float, rules: Rules) -> Battle:
        """Another user turn; the earlier one must have been answered and delivered."""
        self._must_be(now, rules, Stage.CREATED, Stage.DELIVERED)
        if self.casts:
            raise BattleError("voted", "You voted on this dialogue already; start a new battle to go on talking.")
        if len(self.rounds) >= rules.turns:
            raise BattleError("turns", f"A battle has at most {rules.turns} turns. Vote on this one.")
        return replace(self, rounds=(*self.rounds, Round(now)))

    def stored(self, side: Side, seconds: float, now: float, rules: Rules) -> Battle:
        """One side's reply is on disk."""
        self._must_be(now, rules, Stage.ASKED, Stage.STORED)
        last = self.rounds[-1]
        if side in last.replies:
            raise BattleError("stored", "That reply was stored already.")
        if not (math.isfinite(seconds) and seconds > 0):
            raise BattleError("stored", "A reply without sound cannot take part in a battle.")
        return self._last(replies={**last.replies, side: seconds})

    def released(self, now: float, rules: Rules) -> Battle:
        """Both sides may be fetched from now on; never one before the other."""
        self._must_be(now, rules, Stage.STORED)
        if set(self.rounds[-1].replies) != set(SIDES):
            raise BattleError("one_side", "One side has not answered yet.")
        return self._last(released_at=now)

    def delivered(self, now: float, rules: Rules) -> Battle:
        """Both replies were handed out. Handing them out again changes nothing: the first time counts."""
        if self.stage(now, rules) in (Stage.DELIVERED, Stage.VOTED, Stage.REVEALED):
            return self
        self._must_be(now, rules, Stage.RELEASED)
        return self._last(delivered=dict.fromkeys(SIDES, now))

    def played(self, turn: int, played: Played, now: float, rules: Rules) -> Battle:
        """A client says that it played a stretch of one reply. ``turn`` counts from 0."""
        self._must_be(now, rules, Stage.DELIVERED)
        if not 0 <= turn < len(self.rounds) or not self.rounds[turn].delivered:
            raise BattleError("playback", "That turn was not delivered.")
        if sum(len(each.played) for each in self.rounds) >= rules.reports:
            raise BattleError("playback", "Too many playback reports for one battle.")
        changed = replace(self.rounds[turn], played=(*self.rounds[turn].played, played))
        return replace(self, rounds=(*self.rounds[:turn], changed, *self.rounds[turn + 1 :]))

    def voted(self, ballot: Ballot, now: float, rules: Rules) -> Battle:
        """Once, after delivery, after both sides were heard, before expiry.

        Raises:
            BattleError: ``voted``, ``stage``, ``expired``, ``void`` or ``unheard``.
        """
        self._must_be(now, rules, Stage.DELIVERED)
        missing = self.listening(rules).missing(now)
        if missing:
            raise BattleError("unheard", missing)
        return replace(self, casts=(*self.casts, Cast(len(self.casts) + 1, ballot, now)))

    def undone(self, now: float, rules: Rules) -> Battle:
        """Within ``rules.undo`` seconds of the vote, before the reveal and unless it was taken back."""
        self._must_be(now, rules, Stage.VOTED)
        cast = self.casts[-1]
        if cast.retracted_at is not None:
            raise BattleError("retracted", "This vote was taken back already.")
        if now > cast.at + rules.undo:
            raise BattleError("too_late", f"A vote can be undone for {rules.undo:.0f} seconds; this one stands.")
        if len(self.casts) >= rules.ballots:
            raise BattleError("too_late", "You changed your mind often enough here; this vote stands.")
        return replace(self, casts=(*self.casts[:-1], replace(cast, undone_at=now)))

    def revealed(self, now: float, rules: Rules) -> Battle:
        """Who was who, once the vote can no longer be undone. A second reveal changes nothing."""
        if self.void is None and self.revealed_at is not None:
            return self
        if self.stage(now, rules) is not Stage.VOTED:
            raise BattleError("not_voted", "Vote first: who was who is shown afterwards.")
        wait = self.casts[-1].at + rules.undo - now
        if wait > 0:
            raise BattleError("too_early", f"Who was who is shown in {math.ceil(wait)} s, when the vote stands.")
        return replace(self, revealed_at=now)

    def retracted(self, now: float) -> Battle:
        """After the reveal (or instead of it): the vote stays in the log and counts no more."""
        cast = self.standing
        if cast is None or cast.retracted_at is not None:
            raise BattleError("retracted", "There is no vote of yours to take back here.")
        return replace(self, casts=(*self.casts[:-1], replace(cast, retracted_at=now)))

    def voided(self, reason: str) -> Battle:
        """A side failed: nobody wins and nobody loses. What was voted on cannot be voided."""
        if self.standing is not None or self.void is not None:
            raise BattleError("void", "This battle is over already.")
        return replace(self, void=reason)

    def _must_be(self, now: float, rules: Rules, *stages: Stage) -> None:
        stage = self.stage(now, rules)
        if self.erased:
            raise BattleError("erased", "This battle was erased.")
        if stage not in stages:
            code = {Stage.VOTED: "voted", Stage.REVEALED: "voted"}.get(stage, stage.value)
            raise BattleError(code, _SENTENCES[stage])

    def _last(self, **changes: object) -> Battle:
        return replace(self, rounds=(*self.rounds[:-1], replace(self.rounds[-1], **changes)))


_SENTENCES = {
    Stage.CREATED: "Nothing was asked in this battle yet.",
    Stage.ASKED: "The replies are not ready yet.",
    Stage.STORED: "The replies are not ready yet.",
    Stage.RELEASED: "The replies were not delivered yet.",
    Stage.DELIVERED: "The replies were delivered already.",
    Stage.VOTED: "You voted on this battle already.",
    Stage.REVEALED: "You voted on this battle already.",
    Stage.VOID: "A side failed, so this battle does not count. Start a new one.",
    Stage.EXPIRED: "This battle has expired. Start a new one.",
}


def _whole(name: str, value: object, limit: int) -> int:
    """A whole number within ±limit; 2.0 is one, True, NaN and "2" are not."""
    whole = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value) and value == int(value))
    if isinstance(value, bool) or not whole or abs(value) > limit:
        extra = ' or "both_bad"' if limit == 3 else ""
        raise BattleError("ballot", f"{name} must be a whole number from -{limit} to {limit}{extra}.")
    return int(value)


def _reason(value: object, limit: int) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise BattleError("ballot", "The reason must be text.")
    words = " ".join(value.encode("utf-8", "replace").decode("utf-8").replace("\x00", " ").split())
    if len(words) > limit:
        raise BattleError("ballot", f"The reason has {len(words):,} characters; the limit is {limit}.")
    return words or None
