"""An arena with fakes at its edges: checkpoints that hum, a clock that is moved by hand."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from app.battles import SIDES, BattleError, Rules
from app.checks import CheckRules
from app.conversation import Asked
from app.matchmaking import Pair
from app.rater_views import Receipt
from app.rates import Rates
from app.staging import Staging
from app.store import Store
from app.store.schema import TABLES
from app.voting import Voting
from wavalign.audio import Waveform
from wavalign.dialogue import Dialogue, Reply, Turn

RATE = 16_000
PAIR = ("base", "tuned")


def hum(seconds: float = 1.0, pitch: float = 140.0, level: float = 0.1) -> Waveform:
    """A voice-like tone whose level goes up and down four times a second."""
    clock = np.arange(round(seconds * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * pitch * harmonic * clock) / harmonic for harmonic in (1, 2, 3, 5))
    return Waveform((level * tone * (0.6 + 0.4 * np.sin(8 * np.pi * clock))).astype(np.float32), RATE)


def typed(words: str = "what is two plus two") -> Asked:
    return Asked(Turn("user", text=words), typed=words)


def spoken(pitch: float = 200.0) -> Asked:
    return Asked(Turn("user", speech=hum(0.8, pitch)))


@dataclass
class Clock:
    now: float = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class FakeSpeakers:
    """Every checkpoint hums at a pitch of its own. ``broken``: what goes wrong with whom."""

    names: Sequence[str] = PAIR
    seconds: float = 1.0
    broken: dict[str, Exception | str] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[tuple[str, str], tuple[Dialogue, Dialogue], tuple[Mapping[str, Any], ...]]] = field(
        default_factory=list
    )

    def pairs(self) -> list[Pair]:
        return [(a, b) for i, a in enumerate(self.names) for b in self.names[i + 1 :]]

    def revision(self, name: str) -> str | None:
        return self.revisions.get(name, f"{name}-1")

    def sampling(self, name: str, seed: int) -> Mapping[str, Any]:
        return {"temperature": 0.8, "seed": seed}

    def reply(
        self,
        names: tuple[str, str],
        dialogues: tuple[Dialogue, Dialogue],
        settings: tuple[Mapping[str, Any], Mapping[str, Any]],
        stop: threading.Event | None,
    ) -> tuple[Reply, Reply]:
        self.asked.append((names, dialogues, settings))
        return tuple(self._one(name, settings[index]["seed"]) for index, name in enumerate(names))

    def _one(self, name: str, seed: int) -> Reply:
        problem = self.broken.get(name)
        if isinstance(problem, Exception):
            raise problem
        if problem == "silent":
            return Reply("", Waveform(np.zeros(RATE, np.float32), RATE), ())
        pitch = 100 + int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100 + seed % 7
        return Reply(f"four says {name}", hum(self.seconds, pitch), (1, 2, seed % 1000))

    def measure(self, reply: Reply) -> Mapping[str, float | str]:
        return {"articulation_rate": 4.0}

    def hear(self, asked: Asked) -> str | None:
        return "what is two plus two"

    def category(self, words: Sequence[str]) -> str:
        return "sum"


@dataclass
class Arena:
    """What a test needs: the service, and a rater's way to a vote in one call."""

    voting: Voting
    clock: Clock
    speakers: FakeSpeakers

    def join(self, rater: str = "b-1", level: str = "publish", source: str = "human") -> str:
        self.voting.consent(rater, level, source)
        return rater

    def heard(self, rater: str = "b-1", asked: Asked | None = None) -> str:
        """A battle of this rater that is open for the vote."""
        battle = self.voting.open(rater, asked or typed()).battle
        self.listen(battle, rater)
        return battle

    def listen(self, battle: str, rater: str = "b-1") -> None:
        """Delivery, then every second of both sides at its own pace."""
        for delivered in self.voting.deliver(battle, rater):
            for side in SIDES:
                self.clock.forward(delivered.seconds + 0.05)
                report = {"turn": delivered.turn, "side": side, "start": 0.0, "end": delivered.seconds}
                self.voting.report_playback(battle, rater, [report])

    def voted(self, choice: object = 2, rater: str = "b-1", asked: Asked | None = None, **said: Any) -> Receipt:
        return self.voting.vote(self.heard(rater, asked), rater, choice, **said)

    def revealed(self, choice: object = 2, rater: str = "b-1", asked: Asked | None = None, **said: Any) -> Receipt:
        receipt = self.voted(choice, rater, asked, **said)
        self.clock.forward(self.voting.rules.undo + 0.01)
        self.voting.reveal(receipt.battle, rater)
        return receipt


def make_arena(
    store: Store,
    speakers: FakeSpeakers | None = None,
    rules: Rules | None = None,
    checks: CheckRules | None = None,
    rates: Rates | None = None,
    seed: int = 0,
) -> Arena:
    """Without gold battles and repeats unless ``checks`` asks for them; no rates to speak of."""
    speakers, clock = speakers or FakeSpeakers(), Clock()
    staging = Staging(
        store,
        speakers,
        rules=rules or Rules(),
        rates=rates or Rates(10**6, 10**6, 10**6),
        checks=checks or CheckRules(gold_share=0.0, repeat_share=0.0),
        clock=clock,
        dice=random.Random(seed),
        sounds=np.random.default_rng(seed),
    )
    return Arena(Voting(staging), clock, speakers)


def rows(arena: Arena) -> dict[str, int]:
    """How many there are in each table."""
    with arena.voting.store.reading() as session:
        return {t.__tablename__: len(session.execute(select(t)).all()) for t in TABLES}


def refused(code: str, step: Callable[..., object], *args: Any, **kwargs: Any) -> str:
    """What a rater is told by a step that has to end in this refusal."""
    with pytest.raises(BattleError) as caught:
        step(*args, **kwargs)
    assert caught.value.code == code, f"{caught.value.code}: {caught.value}"
    return str(caught.value)
