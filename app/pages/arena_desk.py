"""What the Arena page's script asks of the server: one message in, one answer out, plain JSON. Knows no Gradio.

Every message names its rater by a signed token; nothing it says about a battle is believed without asking the store.
Before the reveal no answer holds a checkpoint's name, and both sides of a turn travel in one answer.
"""

from __future__ import annotations

import math
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from app import discretion, logs, my_votes
from app.asks import Asks
from app.battles import BattleError, Stage
from app.equaliser import TARGET_LUFS, loudness
from app.examples import load_examples
from app.listening import PlaybackError
from app.pages import arena_view
from app.services import Services
from app.store import StoreError
from wavalign import audio
from wavalign.audio import Waveform

#: What a message may ask for: one method each.
ACTS = (
    *("consent", "sound", "next", "stop", "fetch", "progress", "report"),
    *("vote", "detail", "undo", "reveal", "mine", "retract", "erase"),
)
STRANGER = "This browser's id was not made here. Reload the page to get a new one."
FOREIGN = (
    "A browser came with an id that another secret signed. Replicas must share WAVALIGN_SECRET; where it was changed, "
    "raters begin anew under another id."
)
#: For the host's log, so often at most: ids can be made up.
FOREIGN_SECONDS = 600.0
_SOUND_RATE = 16_000

Json = dict[str, Any]


def is_ask(value: Any) -> bool:
    """Whether the page may have named a question so."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{8,32}", value) is not None


def failure(error: Exception) -> Json:
    """Any failure as one sentence; a fault of ours is logged and told in general words."""
    if isinstance(error, BattleError):
        return {"code": error.code, "message": str(error)}
    if isinstance(error, PlaybackError):
        return {"code": "playback", "message": str(error)}
    if isinstance(error, StoreError):
        return {"code": "store", "message": discretion.told(error)}
    traceback.print_exception(error, file=sys.stderr)
    return {"code": "fault", "message": "Something went wrong here, and was logged. Try again."}


@dataclass
class Desk:
    """``clock`` is in seconds and never goes back: it spaces what the host is told."""

    services: Services
    clock: Callable[[], float] = time.monotonic
    asks: Asks = field(default_factory=Asks)
    _said_foreign: float = field(default=-math.inf, init=False)

    def answer(self, message: Any, account: str | None = None) -> Json:
        """One message; ``account`` is the signed-in account's name, whose votes do not depend on the browser."""
        try:
            if not isinstance(message, dict):
                raise BattleError("message", "That is not a message this page sends.")
            if message.get("do") == "hello":
                return self._hello(message, account)
            if message.get("do") not in ACTS:
                raise BattleError("message", "That is not a message this page sends.")
            return getattr(self, f"_{message['do']}")(self.rater(message.get("token"), account), message)
        except Exception as error:  # the outermost boundary: a sentence goes out, the traceback is logged
            return {"error": failure(error)}

    def rater(self, token: Any, account: str | None = None) -> str:
        """Who asks.

        Raises:
            BattleError: ``rater``, when the token was not signed here.
        """
        if account:
            return self.services.raters.account(account)
        rater = self._known(token)
        if rater is None:
            raise BattleError("rater", STRANGER)
        return rater

    def _known(self, token: Any) -> str | None:
        """The rater of a token that was signed here; of another secret's, the host reads in the log."""
        raters = self.services.raters
        if raters.is_foreign(token) and self.clock() - self._said_foreign > FOREIGN_SECONDS:
            self._said_foreign = self.clock()
            logs.say(FOREIGN, event="foreign id")
        return raters.rater_of(token)

    def _hello(self, message: Mapping[str, Any], account: str | None) -> Json:
        raters = self.services.raters
        where = {
            "where": arena_view.where_it_goes(self.services.settings),
            "about": arena_view.about_you(account is not None),
        }
        if account is None and self._known(message.get("token")) is None:
            token = raters.issue()
            return {"token": token, **where, **self._standing(raters.rater_of(token))}
        return {**where, **self._standing(self.rater(message.get("token"), account))}

    def _standing(self, rater: str) -> Json:
        """What the foot of the page and the first screen depend on."""
        voting = self.services.voting
        return {
            "consent": voting.consent_of(rater),
            "current": voting.current(rater),
            **self._counts(rater),
        }

    def _counts(self, rater: str) -> Json:
        voting = self.services.voting
        return {"votes": my_votes.standing_votes(voting.store, rater), "today": voting.today()}

    def _consent(self, rater: str, message: Mapping[str, Any]) -> Json:
        self.services.voting.consent(rater, message.get("level"))
        return self._standing(rater)

    def _sound(self, rater: str, message: Mapping[str, Any]) -> Json:
        return {"audio": self._sound_check}

    @cached_property
    def _sound_check(self) -> str:
        """A shipped voice as loud as replies are, else two notes; base64 of a wav."""
        spoken = next((each.audio for each in load_examples(self.services.settings.assets) if each.audio), None)
        voice = audio.read(spoken).resampled(_SOUND_RATE) if spoken else _two_notes()
        gain = 10 ** ((TARGET_LUFS - loudness(voice.samples.astype(np.float64), voice.sample_rate)) / 20)
        samples = voice.samples * min(gain, 0.89 / max(voice.peak(), 1e-6))
        return arena_view.base64_of(Waveform(samples.astype(np.float32), voice.sample_rate).to_wav_bytes())

    def _next(self, rater: str, message: Mapping[str, Any]) -> Json:
        again = self.services.voting.repeat(rater)
        return {"battle": again.battle if again is not None else None}

    def _stop(self, rater: str, message: Mapping[str, Any]) -> Json:
        """A question that is being answered or waits for its turn; replies that are ready come all the same."""
        if not is_ask(ask := message.get("ask")):
            raise BattleError("message", "That is not a message this page sends.")
        self.asks.stop(rater, ask)
        return {"stopping": True}

    def _fetch(self, rater: str, message: Mapping[str, Any]) -> Json:
        """The turns from number ``after`` on, both sides of each together; after a reload, the standing vote too."""
        battle, after = message.get("battle"), message.get("after")
        first = after if isinstance(after, int) and not isinstance(after, bool) and after > 0 else 0
        turns = self.services.voting.deliver(battle, rater)
        progress = self.services.voting.progress(battle, rater)
        found = {
            "turns": [arena_view.turn_of(each) for each in turns if each.turn >= first],
            "progress": arena_view.progress_of(progress),
            **self._counts(rater),
        }
        if progress.stage is Stage.VOTED:
            vote = next(each for each in self.services.voting.mine(rater) if each.battle == battle)
            said = {name: getattr(vote, name) for name in ("helpfulness", "naturalness", "reason")}
            found["receipt"] = {"choice": arena_view.choice_of(vote), "undo_seconds": progress.undo_seconds, **said}
        return found

    def _progress(self, rater: str, message: Mapping[str, Any]) -> Json:
        return {"progress": arena_view.progress_of(self.services.voting.progress(message.get("battle"), rater))}

    def _report(self, rater: str, message: Mapping[str, Any]) -> Json:
        progress = self.services.voting.report_playback(message.get("battle"), rater, message.get("reports"))
        return {"progress": arena_view.progress_of(progress)}

    def _vote(self, rater: str, message: Mapping[str, Any]) -> Json:
        receipt = self.services.voting.vote(message.get("battle"), rater, message.get("choice"))
        shown = {"choice": message.get("choice"), "undo_seconds": receipt.undo_seconds}
        return {"receipt": shown, "votes": receipt.votes, "today": self.services.voting.today()}

    def _detail(self, rater: str, message: Mapping[str, Any]) -> Json:
        said = [message.get(name) for name in ("helpfulness", "naturalness", "reason")]
        self.services.voting.detail(message.get("battle"), rater, *said)
        return {"saved": True}

    def _undo(self, rater: str, message: Mapping[str, Any]) -> Json:
        progress = self.services.voting.undo(message.get("battle"), rater)
        return {"progress": arena_view.progress_of(progress), **self._counts(rater)}

    def _reveal(self, rater: str, message: Mapping[str, Any]) -> Json:
        return {
            "reveal": arena_view.reveal_of(self.services.voting.reveal(message.get("battle"), rater)),
            **self._counts(rater),
        }

    def _mine(self, rater: str, message: Mapping[str, Any]) -> Json:
        """With names: what was not revealed yet is so from now on, and nothing more can be said about it."""
        return {"mine": [arena_view.my_vote(each) for each in self.services.voting.mine(rater, reveal=True)]}

    def _retract(self, rater: str, message: Mapping[str, Any]) -> Json:
        mine = self.services.voting.retract(message.get("receipt"), rater)
        return {"retracted": arena_view.my_vote(mine), **self._standing(rater)}

    def _erase(self, rater: str, message: Mapping[str, Any]) -> Json:
        erased = self.services.voting.erase(rater)
        battles = f"{erased.battles} battle{'' if erased.battles == 1 else 's'}"
        files = f"{erased.recordings} recording{'' if erased.recordings == 1 else 's'}"
        said = f"Erased: {battles} and {files}."
        if self.services.raters.rater_of(message.get("token")) != rater:  # an account is the same one afterwards
            again = " Your account keeps its code; what may be done with later votes is asked anew."
            return {"words": said + again, **self._standing(rater)}
        token = self.services.raters.issue()  # nothing ties what comes later to what was erased
        return {
            "token": token,
            "words": f"{said} This browser has a new id from now on.",
            **self._standing(self.services.raters.rater_of(token)),
        }


def _two_notes() -> Waveform:
    """A fifth, one note after the other, 1.2 s."""
    clock = np.arange(round(0.6 * _SOUND_RATE)) / _SOUND_RATE
    fade = np.minimum(1, np.minimum(clock, clock[::-1]) / 0.05)
    notes = [0.2 * fade * np.sin(2 * np.pi * hertz * clock) for hertz in (330.0, 495.0)]
    return Waveform(np.concatenate(notes).astype(np.float32), _SOUND_RATE)
