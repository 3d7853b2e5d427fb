"""What happens when something is asked in the Arena: the composer's widgets in, a battle ready to be heard out."""

from __future__ import annotations

import json
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from app import discretion, line
from app.battles import BattleError
from app.callers import caller_of
from app.conversation import Asked
from app.examples import Example
from app.intake import NOTHING_GIVEN, IntakeError, speech_turn, typed_turn
from app.listening import PlaybackError
from app.pages.arena_desk import Desk, is_ask
from app.services import Services
from app.standing import turn_of
from app.store import StoreError
from wavalign.audio import AudioError
from wavalign.dialogue import Turn

NO_WORDS = "There are no words in that. Ask in English, or pick an example."
OUTSIDE = "That is outside the small world these models know. Try one of the examples, or something like them."
UNASKED = "Stopped. Nothing was asked."
#: Told as they are, none names a checkpoint; anything else is a fault of ours, logged and told in general words.
EXPECTED = (IntakeError, AudioError, BattleError, line.BusyError, PlaybackError, StoreError)

Updates = dict[Any, Any]


@dataclass(frozen=True)
class Composer:
    """The widgets that change when something was asked."""

    stage: gr.HTML
    recording: gr.Audio
    text: gr.Textbox

    def all(self) -> list[Any]:
        return [self.stage, self.recording, self.text]


@dataclass(frozen=True)
class Ticket:
    """Who asks, and in which battle; both are claims that the service checks."""

    token: str | None = None
    battle: str | None = None
    ask: str | None = None
    """What the page calls this question, to stop it by."""

    @classmethod
    def of(cls, text: Any) -> Ticket:
        try:
            said = json.loads(text) if isinstance(text, str) and len(text) < 1000 else None
        except ValueError:
            said = None
        values = said if isinstance(said, dict) else {}
        known = {name: values.get(name) for name in ("token", "battle") if isinstance(values.get(name), str)}
        return cls(**known, ask=values["ask"] if is_ask(values.get("ask")) else None)


@dataclass(frozen=True)
class Handlers:
    """One instance a page; nothing in it belongs to a visitor."""

    services: Services
    desk: Desk
    composer: Composer
    examples: tuple[Example, ...]

    def send(
        self,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        ticket: str,
        recording: str | None,
        text: str,
    ) -> Iterator[Updates]:
        make = (lambda: self._spoken(recording)) if recording else (lambda: self._typed(text))
        yield from self._ask(request, profile, ticket, make)

    def send_text(
        self, request: gr.Request, profile: gr.OAuthProfile | None, ticket: str, text: str
    ) -> Iterator[Updates]:
        yield from self._ask(request, profile, ticket, lambda: self._typed(text))

    def recorded(
        self, request: gr.Request, profile: gr.OAuthProfile | None, ticket: str, recording: str | None
    ) -> Iterator[Updates]:
        if recording:
            yield from self._ask(request, profile, ticket, lambda: self._spoken(recording))
        else:
            yield {self.composer.stage: _news(state="told")}  # taken out again: nothing was asked

    def example(
        self, request: gr.Request, profile: gr.OAuthProfile | None, event: gr.EventData, ticket: str
    ) -> Iterator[Updates]:
        def asked() -> Asked:
            index = event._data.get("index") if isinstance(event._data, dict) else None
            if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(self.examples):
                raise IntakeError(NOTHING_GIVEN)
            chosen = self.examples[index]
            if chosen.audio is None:
                return self._typed(chosen.text)
            return replace(self._spoken(str(chosen.audio)), heard=chosen.text)  # what it says is known

        yield from self._ask(request, profile, ticket, asked)

    def _spoken(self, path: str) -> Asked:
        return Asked(speech_turn(path, self.services.settings.limits))

    def _typed(self, text: str) -> Asked:
        turn = typed_turn(text, self.services.settings.limits)
        words = self.services.senses.wording(turn.text)
        if not words:
            raise IntakeError(NO_WORDS)
        return Asked(Turn("user", text=words), typed=turn.text)

    def _ask(
        self,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        ticket: str,
        make_asked: Callable[[], Asked],
    ) -> Iterator[Updates]:
        try:
            opened = yield from self._opened(request, profile, Ticket.of(ticket), make_asked)
        except EXPECTED as error:
            yield self._told(discretion.told(error), getattr(error, "code", None))
        except Exception as error:
            # The page is the outermost boundary: the log gets the traceback, the rater a sentence without names.
            traceback.print_exception(error, file=sys.stderr)
            yield self._told("Something went wrong here, and was logged. Try again.", None)
        else:
            yield {
                self.composer.stage: _news(state="opened", battle=opened),
                self.composer.recording: None,
                self.composer.text: "",
            }

    def _opened(
        self,
        request: gr.Request,
        profile: gr.OAuthProfile | None,
        ticket: Ticket,
        make_asked: Callable[[], Asked],
    ) -> Generator[Updates, None, str]:
        """The battle's id once both replies are ready; tells how long the line is."""
        rater = self.desk.rater(ticket.token, profile.username if profile else None)
        ask = ticket.ask or secrets.token_hex(8)
        stop = self.desk.asks.begin(rater, ask)
        try:
            with turn_of(self.services, request) as turn:
                for ahead in turn.waiting(stop):
                    yield {self.composer.stage: _news(state="waiting", words=line.words(ahead))}
                if stop.is_set():
                    raise BattleError("stopped", UNASKED)
                yield {self.composer.stage: _news(state="asking")}
                with self.services.under_way.answering(stop):
                    return self._battle(request, rater, ticket.battle, make_asked(), stop)
        finally:
            self.desk.asks.end(rater, ask)

    def _battle(self, request: gr.Request, rater: str, battle: str | None, asked: Asked, stop: threading.Event) -> str:
        voting = self.services.voting
        earlier = []
        if battle is not None:
            earlier = [each.user.words for each in voting.deliver(battle, rater)]
        if asked.turn.text is not None and not self.services.senses.knows(asked.turn.text, earlier):
            raise IntakeError(OUTSIDE)
        if battle is None:
            known = caller_of(request).address
            address = self.services.raters.address(known) if known else None
            return voting.open(rater, asked, address=address, stop=stop).battle
        return voting.ask(battle, rater, asked, stop=stop).battle

    def _told(self, sentence: str, code: str | None) -> Updates:
        """One sentence on the page; what was typed stays."""
        return {self.composer.stage: _news(state="told", error=sentence, code=code), self.composer.recording: None}


def _news(**said: Any) -> dict[str, Any]:
    """A value that the page tells from every earlier one."""
    return {"nonce": secrets.token_hex(6), **said}
