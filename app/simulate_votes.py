"""Simulated raters, for demos and tests: ``python -m app.simulate_votes --votes 300 --criterion right``.

Programs vote by a criterion that nothing else is told of. They go through every step that a person does (consent,
delivery, playback, vote, reveal), on a clock of their own, and every one of their votes says ``simulated``: boards and
exports never mix them with people's. The same seed asks the same and votes by the same taste; which reply is on which
side, and what it says, is drawn as in any battle.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.battles import SIDES, BattleError
from app.conversation import Asked
from app.rates import Rates
from app.speakers import LoadedSpeakers
from app.staging import Staging
from app.store import StoreError, queries
from app.voting import Voting
from wavalign.arguments import number, whole
from wavalign.dialogue import Turn

SPLIT = "post_training"
TIE_WIDTH = 0.5
"""Differences within this many units of the criterion are ties, mostly."""
_LONGEST = 40.0
"""Seconds that one vote may take on the simulated clock: two replies of the longest kind, and the undo."""


@dataclass(frozen=True)
class Judged:
    """One reply as a criterion sees it."""

    asked: str
    text: str
    measures: Mapping[str, Any]


Criterion = Callable[[Judged], float]


def right(judged: Judged) -> float:
    """The closed world's grade of the answer, 1 (empty) to 5 (exact)."""
    from wavalign.closedtalk.grading import grade
    from wavalign.closedtalk.understanding import understand

    question = understand(judged.asked)
    return float(grade(judged.text, question.item)) if question is not None else 0.0


def lively(judged: Judged) -> float:
    """Standard deviation of the pitch in semitones."""
    return float(judged.measures.get("f0_sd_semitones", 0.0))


def brief(judged: Judged) -> float:
    """Seconds of speech, the fewer the better."""
    return -float(judged.measures["seconds"])


CRITERIA: dict[str, Criterion] = {"right": right, "lively": lively, "brief": brief}


class ForwardClock:
    """Simulated listening takes no time: the clock is moved by what would have been heard."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def simulate(
    voting: Voting,
    clock: ForwardClock,
    criterion: Criterion,
    votes: int,
    raters: int,
    seed: int,
    noise: float = 0.5,
    left_bias: float = 0.1,
    prompts: Sequence[str] | None = None,
) -> int:
    """Casts that many votes and returns how many battles it took: a battle whose side fails is void and asked anew.

    A rater prefers by the difference of the criterion plus logistic noise of scale ``noise`` plus a liking for the
    left side; strength grows with what is felt, within ``TIE_WIDTH`` it is a tie. ``prompts`` are asked in turn.
    """
    dice, cast, battles = random.Random(seed), 0, 0
    names = [f"s-{seed}-{number}" for number in range(raters)]
    for name in names:
        voting.consent(name, "publish", source="simulated")
    while cast < votes:
        rater = names[cast % raters]
        words = prompts[cast % len(prompts)] if prompts else question(dice)
        battles += 1
        try:
            battle = voting.open(rater, Asked(Turn("user", text=words), typed=words)).battle
        except BattleError as error:
            if error.code != "void" or battles > 3 * votes + 10:
                raise
            continue
        for delivered in voting.deliver(battle, rater):
            for side in SIDES:
                clock.now += delivered.seconds
                stretch = {"turn": delivered.turn, "side": side, "start": 0.0, "end": delivered.seconds}
                voting.report_playback(battle, rater, [stretch])
        liked = {
            each["side"]: criterion(Judged(words, each["text"], each["measures"]))
            for each in queries.recordings(voting.store, battle)
        }
        voting.vote(battle, rater, _choice(liked["left"] - liked["right"] + left_bias + _logistic(dice, noise)))
        clock.now += voting.rules.undo + 1
        voting.reveal(battle, rater)
        cast += 1
    return battles


def _choice(felt: float) -> int:
    if abs(felt) < TIE_WIDTH:
        return 0
    return int(math.copysign(min(3, 1 + int(abs(felt) - TIE_WIDTH)), felt))


def _logistic(dice: random.Random, scale: float) -> float:
    share = min(max(dice.random(), 1e-9), 1 - 1e-9)
    return scale * math.log(share / (1 - share))


def question(dice: random.Random) -> str:
    """What a visitor might ask of the closed world."""
    from wavalign.closedtalk.dialogues import dialogue_spec

    return dialogue_spec(SPLIT, dice.randrange(100_000)).turns[0].text


def main(arguments: Sequence[str] | None = None) -> int:
    from app.services import Services
    from app.settings import Settings, SettingsError

    parser = argparse.ArgumentParser(prog="python -m app.simulate_votes", description=__doc__.splitlines()[0])
    parser.add_argument("--votes", type=whole(1), default=300)
    parser.add_argument("--raters", type=whole(1), default=12)
    parser.add_argument("--criterion", choices=sorted(CRITERIA), default="right")
    parser.add_argument("--noise", type=number(0), default=0.5, help="scale of the logistic noise, in criterion units")
    parser.add_argument(
        "--left-bias", type=number(-10, 10), default=0.1, help="liking for the left side, in the same units"
    )
    parser.add_argument("--seed", type=whole(0), default=0)
    options = parser.parse_args(arguments)
    try:
        services = Services(Settings.from_environment())
        opened = services.voting.staging
        # Behind the present, so that the last vote is not ahead of it.
        clock = ForwardClock(time.time() - options.votes * _LONGEST)
        staging = Staging(opened.store, LoadedSpeakers(services), rates=Rates(10**9, 10**9, 10**9), clock=clock)
        began = time.perf_counter()
        battles = simulate(
            Voting(staging),
            clock,
            CRITERIA[options.criterion],
            options.votes,
            options.raters,
            options.seed,
            options.noise,
            options.left_bias,
        )
    except (SettingsError, StoreError, BattleError) as error:
        print(f"Cannot simulate: {error}", file=sys.stderr)
        return 1
    took = time.perf_counter() - began
    print(f"{options.votes} simulated votes by {options.raters} raters in {battles} battles, {took:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
