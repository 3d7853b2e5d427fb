"""Makes a battle ready to be heard: pair, sides, row, both replies in one batch, made alike, stored, released.

The row is on disk before a model is asked, the audio before the row that names it, and neither side is ever released
before the other.
"""

from __future__ import annotations

import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import program
from app.battles import SIDES, STOPPED, BattleError, Rules, Side
from app.checks import CheckRules, spoiled
from app.conversation import Asked
from app.equaliser import Equalised, SilentReplyError, equalise
from app.matchmaking import Dice, Matchmaking, Pair, Pairing, Tally
from app.rater_views import Opened
from app.rates import Rates
from app.repeats import repeatable, stage_again
from app.speakers import Speakers
from app.store import Store, histories, owners, queries
from app.store import tallies as counts
from app.store.schema import BattleRow, Rater, Release, ReplyRow, TurnRow, VoidRow, VoteRow
from wavalign import audio
from wavalign.dialogue import Dialogue, Reply, Turn

ASK_CONSENT = "Say first what may be done with your votes and recordings."
TRY_AGAIN = "One side failed, so this battle does not count; nobody loses by it. Ask again."
NO_PAIR = "There are no two checkpoints that can meet yet. Add a second one."
CHANGED = "One of the two sides has changed since this battle began. Start a new one."


@dataclass(frozen=True)
class _Tallies:
    """``stale_at``: monotonic time from which it is worth counting again."""

    version: str
    by_pair: Mapping[Pair, Tally]
    stale_at: float


@dataclass
class Staging:
    """Everything up to the release. ``clock`` is wall time in seconds: it has to outlive a restart."""

    store: Store
    speakers: Speakers
    rules: Rules = field(default_factory=Rules)
    rates: Rates = field(default_factory=Rates)
    checks: CheckRules = field(default_factory=CheckRules)
    matchmaking: Matchmaking = field(default_factory=Matchmaking)
    clock: Callable[[], float] = time.time
    dice: Dice = field(default_factory=random.SystemRandom)
    sounds: np.random.Generator = field(default_factory=np.random.default_rng)
    _tallies: dict[str, _Tallies] = field(default_factory=dict, init=False)
    _counting: threading.Lock = field(default_factory=threading.Lock, init=False)
    _spawning: threading.Lock = field(default_factory=threading.Lock, init=False)

    def open(
        self,
        rater: str,
        asked: Asked,
        *,
        address: str | None = None,
        category: str = "",
        language: str = "en",
        stop: threading.Event | None = None,
    ) -> Opened:
        """A new battle with its first turn answered. Where a side fails, another battle is tried once, unseen.

        Raises:
            BattleError: ``consent``, ``rate``, ``pairs`` or ``void``.
        """
        asked = self._heard(asked)
        category = category or self.speakers.category((asked.words,))
        battle = self._create(rater, asked, address, category, language)
        try:
            return self._answer(battle, 0, asked, stop)
        except BattleError as error:
            if error.code != "void" or (stop is not None and stop.is_set()):
                raise
        battle = self._create(rater, asked, address, category, language)
        return self._answer(battle, 0, asked, stop)

    def ask(self, battle: str, rater: str, asked: Asked, *, stop: threading.Event | None = None) -> Opened:
        """The next user turn of a battle; both sides hear it.

        Raises:
            BattleError: not yours, not at this stage, too many turns, or ``void``.
        """
        asked = self._heard(asked)
        spoken = self._spoken(asked)
        now = self.clock()
        with self.store.writing() as session:
            history = owners.owned(session, battle, rater)
            if history.row.kind == "repeat":
                raise BattleError("turns", "This dialogue comes again as it was. Vote on it.")
            number = len(history.battle.asked(now, self.rules).rounds) - 1
            self._add_turn(session, battle, number, asked, spoken, now)
        return self._answer(battle, number, asked, stop)

    def repeat(self, rater: str) -> Opened | None:
        """Now and then one of the rater's earlier battles with the sides swapped; None when it is not due."""
        if self.dice.random() >= self.checks.repeat_share:
            return None
        with self.store.reading() as session:
            if owners.latest_consent(session, rater) in (None, "nothing"):
                return None
            chosen = repeatable(session, rater, self.checks.repeat_gap)
            history = histories.load(session, chosen) if chosen else None
        if history is None:
            return None
        try:
            again = stage_again(self.store, history, self._draw(), self.clock())
        except IntegrityError:  # another tab was given it a moment ago
            return None
        return Opened(again, len(history.turns) - 1, 0, repeat=True)

    def tallies(self, source: str) -> Mapping[Pair, Tally]:
        """Decided battles by pair, of people or of simulations.

        Counted anew when votes changed, by one visitor at a time, and at most a twentieth of the time is spent on it:
        with very many votes the choice may lag a little behind.
        """
        version, known = queries.version(self.store), self._tallies.get(source)
        if known is not None and (known.version == version or time.monotonic() < known.stale_at):
            return known.by_pair
        if not self._counting.acquire(blocking=known is None):
            return known.by_pair  # somebody else is at it
        try:
            known, began = self._tallies.get(source), time.monotonic()
            if known is None or (known.version != version and began >= known.stale_at):
                by_pair = {pair: Tally(*each) for pair, each in counts.tallies(self.store, source).items()}
                ended = time.monotonic()
                known = self._tallies[source] = _Tallies(version, by_pair, 21 * ended - 20 * began)
        finally:
            self._counting.release()
        return known.by_pair

    def _create(self, rater: str, asked: Asked, address: str | None, category: str, language: str) -> str:
        with self.store.reading() as session:
            person = session.get(Rater, rater)
        if person is None:
            raise BattleError("consent", ASK_CONSENT)
        pairs = list(self.speakers.pairs())
        if not pairs:
            raise BattleError("pairs", NO_PAIR)
        pairing = self.matchmaking.choose(pairs, self.tallies(person.source), self.dice)
        decided = self._decided(pairing)
        spoken = self._spoken(asked)
        battle, now = secrets.token_hex(16), self.clock()
        with self.store.writing() as session:
            consent = owners.latest_consent(session, rater)
            if consent is None:
                raise BattleError("consent", ASK_CONSENT)
            self.rates.check(session, rater, address, now)
            gold = self._gold_side(session, rater)
            session.add(
                BattleRow(
                    **decided,
                    id=battle,
                    at=now,
                    rater=rater,
                    source=person.source,
                    kind="gold" if gold else "ordinary",
                    gold_side=gold,
                    consent=consent,
                    category=category,
                    language=language,
                    address=address,
                )
            )
            session.flush()
            self._add_turn(session, battle, 0, asked, spoken, now)
        return battle

    def _decided(self, pairing: Pairing) -> dict[str, Any]:
        """What is settled before anything is asked: who, on which side, at which revision, with which seed."""
        names = {"left": pairing.left, "right": pairing.right}
        return {
            **names,
            **{f"{side}_revision": self.speakers.revision(name) for side, name in names.items()},
            # Seeds of their own: two checkpoints of one base often say the very same with one seed.
            "sampling": {
                side: dict(self.speakers.sampling(name, secrets.randbelow(2**31))) for side, name in names.items()
            },
            "propensity": pairing.propensity,
            "choice": dict(pairing.why),
            "program": program.revision(),
        }

    def _answer(self, battle: str, number: int, asked: Asked, stop: threading.Event | None) -> Opened:
        """Both replies in one call; all of it is stored and released in one transaction, or the battle is void."""
        from wavalign.models.protocol import CheckpointError, GenerationError, SamplingError

        with self.store.reading() as session:
            history = histories.load(session, battle)
        try:
            replies = self._replies(history, number, asked, stop)
            if stop is not None and stop.is_set():
                raise BattleError("void", STOPPED)
            rng, gold = self._draw(), history.row.gold_side
            sounds = {side: replies[side].waveform for side in SIDES}
            if gold is not None:
                sounds[gold] = spoiled(sounds[gold], rng)
            equalised = equalise(sounds, rng)
            measures = {side: self._measures(replies[side]) for side in SIDES}
        except SilentReplyError as error:
            self._void(battle, error.side, str(error))
            raise BattleError("void", TRY_AGAIN) from error
        except BattleError as error:
            self._void(battle, None, str(error))
            raise
        except (CheckpointError, GenerationError, SamplingError) as error:  # their words may name a checkpoint
            self._void(battle, None, str(error))
            raise BattleError("void", TRY_AGAIN) from error
        except BaseException as error:
            self._void(battle, None, f"{type(error).__name__}: {error}")
            raise
        self._store(battle, number, replies, equalised, measures)
        return Opened(battle, number, self.rules.turns - number - 1)

    def _replies(
        self, history: histories.History, number: int, asked: Asked, stop: threading.Event | None
    ) -> dict[Side, Reply]:
        row = history.row
        if number and any(
            self.speakers.revision(getattr(row, side)) != getattr(row, f"{side}_revision") for side in SIDES
        ):
            raise BattleError("void", CHANGED)
        dialogues = tuple(self._dialogue(history, side, number, asked.turn) for side in SIDES)
        settings = tuple({**row.sampling[side], "seed": row.sampling[side]["seed"] + number} for side in SIDES)
        return dict(zip(SIDES, self.speakers.reply((row.left, row.right), dialogues, settings, stop), strict=True))

    def _store(
        self,
        battle: str,
        number: int,
        replies: Mapping[Side, Reply],
        equalised: Mapping[Side, Equalised],
        measures: Mapping[Side, Mapping[str, Any]],
    ) -> None:
        originals = {side: replies[side].waveform.to_wav_bytes() for side in SIDES}
        for side in SIDES:
            self.store.audio.put(originals[side])
            self.store.audio.put(equalised[side].wav)
        now = self.clock()
        with self.store.writing() as session:
            histories.lock_audio(session)
            state = histories.load(session, battle, lock=True).battle
            for side in SIDES:
                state = state.stored(side, equalised[side].seconds, now, self.rules)
                session.add(
                    ReplyRow(
                        id=secrets.token_hex(16),
                        battle=battle,
                        number=number,
                        side=side,
                        at=now,
                        text=replies[side].text,
                        tokens=list(replies[side].tokens),
                        finished=replies[side].finished,
                        audio=self.store.audio.keep(originals[side]),
                        presented=self.store.audio.keep(equalised[side].wav),
                        seconds=equalised[side].seconds,
                        file_seconds=equalised[side].file_seconds,
                        measures=dict(measures[side]),
                        equalised=equalised[side].treatment.as_json(),
                    )
                )
            state.released(now, self.rules)
            session.add(Release(id=secrets.token_hex(16), battle=battle, number=number, at=now))

    def _measures(self, reply: Reply) -> dict[str, Any]:
        told = {"seconds": reply.waveform.seconds, "words": len(reply.text.split())}
        return {**self.speakers.measure(reply), **told}

    def _dialogue(self, history: histories.History, side: Side, number: int, last: Turn) -> Dialogue:
        """What this side's model answers: the user's turns and its own replies, as stored."""
        turns: list[Turn] = []
        for turn in history.turns[:number]:
            speech = audio.read(self.store.audio.get(turn.audio)) if turn.audio else None
            turns.append(Turn("user", text=turn.text, speech=speech))
            reply = history.reply(turn.number, side)
            spoken = audio.read(self.store.audio.get(reply.audio))
            turns.append(Turn("assistant", text=reply.text, speech=spoken, tokens=tuple(reply.tokens)))
        return Dialogue((*turns, last))

    def _heard(self, asked: Asked) -> Asked:
        return asked if asked.heard or asked.turn.speech is None else replace(asked, heard=self.speakers.hear(asked))

    def _spoken(self, asked: Asked) -> bytes | None:
        """The user's recording as it is stored; on disk when this returns."""
        if asked.turn.speech is None:
            return None
        data = asked.turn.speech.to_wav_bytes()
        self.store.audio.put(data)
        return data

    def _add_turn(
        self, session: Session, battle: str, number: int, asked: Asked, spoken: bytes | None, now: float
    ) -> None:
        if spoken is not None:
            histories.lock_audio(session)
        session.add(
            TurnRow(
                id=secrets.token_hex(16),
                battle=battle,
                number=number,
                at=now,
                text=asked.turn.text,
                typed=asked.typed,
                heard=asked.heard,
                audio=None if spoken is None else self.store.audio.keep(spoken),
                seconds=None if asked.turn.speech is None else asked.turn.speech.seconds,
            )
        )

    def _void(self, battle: str, side: Side | None, reason: str) -> None:
        with self.store.writing() as session:
            histories.load(session, battle, lock=True).battle.voided(reason)
            session.add(
                VoidRow(id=secrets.token_hex(16), battle=battle, at=self.clock(), side=side, reason=reason[:2000])
            )
        if reason != STOPPED:  # the log is the host's
            print(f"Battle {battle} is void: {reason[:200]}", file=sys.stderr, flush=True)

    def _gold_side(self, session: Session, rater: str) -> Side | None:
        votes = session.scalar(select(func.count()).select_from(VoteRow).where(VoteRow.rater == rater))
        if votes < self.checks.after_votes or self.dice.random() >= self.checks.gold_share:
            return None
        return SIDES[int(self.dice.random() < 0.5)]

    def _draw(self) -> np.random.Generator:
        """A generator for one battle: several are staged at once."""
        with self._spawning:
            return self.sounds.spawn(1)[0]
