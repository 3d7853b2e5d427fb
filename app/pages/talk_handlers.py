"""What the Talk page does when something is pressed: widgets in, a conversation step, widgets out."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import gradio as gr

from app import discretion, line, view
from app.answering import AsRecommended, Live, LiveSide
from app.components.plots import speech_plot
from app.conversation import SIDES, Asked, Conversation, ConversationError, Exchange
from app.examples import Example
from app.intake import NOTHING_GIVEN, IntakeError, speech_turn, typed_turn
from app.services import Services
from app.standing import turn_of
from wavalign.audio import AudioError
from wavalign.closedtalk.delivery import DeliveryError
from wavalign.dialogue import Turn
from wavalign.models.protocol import CheckpointError, GenerationError, Sampling, SamplingError

NO_SECOND = "Only one"
NO_CHECKPOINT = "There is no checkpoint to talk to yet. Put one into the assets folder, then start the app again."
UNASKED = "Stopped. Nothing was asked."
NO_WORDS = "There are no words in that. Ask in English, or pick an example."
#: What is told to the visitor as it is; anything else is a fault of ours, logged and told in general words.
EXPECTED = (
    IntakeError,
    line.BusyError,
    ConversationError,
    CheckpointError,
    GenerationError,
    SamplingError,
    AudioError,
    DeliveryError,
)

UPDATE_SECONDS = 0.25
#: The fields of a sampling that have a slider, in the order of the page, each with its least and most.
SLIDERS = {
    "temperature": (0, 1.5),
    "speech_temperature": (0, 1.5),
    "top_p": (0.05, 1),
    "top_k": (0, 500),
    "max_seconds": (1, float("inf")),
}

Updates = dict[Any, Any]


@dataclass(frozen=True)
class Session:
    """One visitor's conversation; ``key`` changes with every new one, so that the page clears."""

    key: str
    conversation: Conversation | None


def fresh(checkpoints: tuple[str, ...]) -> Session:
    return Session(secrets.token_hex(6), Conversation(checkpoints) if checkpoints else None)


@dataclass(frozen=True)
class Widgets:
    """The page's outputs, so that no handler returns by position."""

    state: gr.State
    stage: gr.HTML
    recording: gr.Audio
    text: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    new: gr.Button
    download: gr.DownloadButton
    pitch: gr.Accordion
    plots: tuple[gr.Plot, ...]
    seed: gr.Number

    def all(self) -> list[Any]:
        listed = [getattr(self, each.name) for each in fields(self) if each.name != "plots"]
        return [*listed, *self.plots]


@dataclass(frozen=True)
class Wish:
    """The settings of one request, as the page has them."""

    sampling: Sampling | AsRecommended
    autoplay: bool

    @classmethod
    def of(
        cls,
        as_recommended: bool,
        temperature: float,
        speech_temperature: float,
        top_p: float,
        top_k: float,
        longest: float,
        seed: float | None,
        keep: bool,
        autoplay: bool,
        *,
        limit_seconds: float,
    ) -> Wish:
        seed = int(seed or 0) if keep else secrets.randbelow(2**31)
        if as_recommended:
            return cls(AsRecommended(seed, limit_seconds), bool(autoplay))
        sampling = Sampling(
            temperature=float(temperature),
            speech_temperature=float(speech_temperature),
            top_p=float(top_p),
            top_k=int(top_k),
            max_seconds=min(float(longest), limit_seconds),
            seed=seed,
        )
        return cls(sampling, bool(autoplay))


class Pace:
    """When an exchange under way is sent to the page: at its first sound, then a few times a second.

    Every update costs the page more than a step costs the model.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = float("-inf")
        self._sounding = 0

    def is_due(self, live: Live) -> bool:
        sounding = sum(bool(side.audio) for side in live.sides)
        if sounding == self._sounding and not live.measuring and self._clock() - self._last < UPDATE_SECONDS:
            return False
        self._sounding, self._last = sounding, self._clock()
        return True


@dataclass(frozen=True)
class Handlers:
    """One instance a page; what belongs to a visitor is in ``Session`` and travels with the request."""

    services: Services
    widgets: Widgets
    examples: tuple[Example, ...]

    def send(
        self,
        request: gr.Request,
        session: Session,
        left: str,
        right: str,
        recording: str | None,
        text: str,
        *settings: Any,
    ) -> Iterator[Updates]:
        if recording:
            yield from self._ask(session, left, right, lambda: self._spoken(recording), settings, request)
        else:
            yield from self.send_text(request, session, left, right, text, *settings)

    def send_text(
        self, request: gr.Request, session: Session, left: str, right: str, text: str, *settings: Any
    ) -> Iterator[Updates]:
        yield from self._ask(session, left, right, lambda: self._typed(text, left, right), settings, request)

    def recorded(
        self,
        request: gr.Request,
        session: Session,
        left: str,
        right: str,
        recording: str | None,
        at_once: bool,
        *settings: Any,
    ) -> Iterator[Updates]:
        if recording and at_once:
            yield from self._ask(session, left, right, lambda: self._spoken(recording), settings, request)
        else:
            yield {self.widgets.send: gr.skip()}

    def example(
        self, request: gr.Request, event: gr.EventData, session: Session, left: str, right: str, *settings: Any
    ) -> Iterator[Updates]:
        def asked() -> Asked:
            index = event._data.get("index") if isinstance(event._data, dict) else None
            if not isinstance(index, int) or not 0 <= index < len(self.examples):
                raise IntakeError(NOTHING_GIVEN)
            chosen = self.examples[index]
            return self._spoken(str(chosen.audio)) if chosen.audio else self._typed(chosen.text, left, right)

        yield from self._ask(session, left, right, asked, settings, request)

    def again(self, request: gr.Request, session: Session, left: str, right: str, *settings: Any) -> Iterator[Updates]:
        try:
            if session.conversation is None:
                raise CheckpointError(NO_CHECKPOINT)
            conversation, asked = session.conversation.without_last()
        except EXPECTED as error:
            yield self._told(session, discretion.told(error))
            return
        before = replace(session, conversation=conversation)
        yield from self._ask(before, left, right, lambda: asked, settings, request, again=True)

    def stop(self, request: gr.Request) -> None:
        self.services.stops.stop(request.session_hash)

    def new(
        self,
        request: gr.Request,
        session: Session,
        left: str,
        right: str,
    ) -> Updates:
        """Begins anew with the checkpoints that are chosen now; what was being said stops."""
        self.services.stops.forget(request.session_hash)
        if session.conversation is not None:
            self.services.recordings.drop(session.conversation.files())
        session = fresh(_chosen(left, right))
        return {
            **self._idle(session),
            self.widgets.stage: self._stage(session),
            self.widgets.recording: None,
            self.widgets.download: gr.DownloadButton(value=None, interactive=False),
            self.widgets.pitch: gr.Accordion(visible=False),
        }

    def chosen(self, request: gr.Request, session: Session, left: str, right: str) -> Updates:
        """Begins anew with other checkpoints; a question that was already asked of them goes on.

        Who chooses and asks at once is faster than the news of the choice.
        """
        if self.services.stops.last_asked(request.session_hash) == _chosen(left, right):
            return {self.widgets.send: gr.skip()}
        return self.new(request, session, left, right)

    def afterwards(self, session: Session) -> Updates:
        """What comes a moment after the replies, when the next turn can already be asked: plots and the download."""
        if session.conversation is None or not session.conversation.exchanges:
            return {self.widgets.pitch: gr.skip()}
        widgets = self.widgets
        archive = self.services.recordings.put_file("conversation.zip", session.conversation.export())
        updates: Updates = {widgets.download: gr.DownloadButton(value=str(archive), interactive=True)}
        answers = session.conversation.exchanges[-1].answers
        if not answers:
            return updates
        updates[widgets.pitch] = gr.Accordion(visible=True)
        for number, (plot, side) in enumerate(zip(widgets.plots, SIDES, strict=True)):
            spoken = number < len(answers) and len(answers[number].reply.waveform.samples) > 0
            figure = speech_plot(answers[number].reply.waveform, side) if spoken else None
            updates[plot] = gr.Plot(value=figure, visible=spoken)
        return updates

    def recommended(self, left: str | None, as_recommended: bool) -> list[Any]:
        """The sliders, set to what A's checkpoint recommends; as the visitor left them where theirs hold."""
        if not as_recommended:
            return [gr.skip()] * len(SLIDERS)
        values = slider_values(self.services.default_sampling(left), self.services.settings.limits.reply_seconds)
        return [values[name] for name in SLIDERS]

    def left(self, request: gr.Request) -> None:
        """The tab was closed."""
        self.services.stops.forget(request.session_hash)
        self.services.recordings.sweep()

    def _spoken(self, path: str) -> Asked:
        turn = speech_turn(path, self.services.settings.limits)
        return Asked(turn, audio=self.services.recordings.put(turn.speech))

    def _typed(self, text: str, *sides: str) -> Asked:
        turn = typed_turn(text, self.services.settings.limits)
        chosen = _chosen(*sides)
        if chosen and self.services.knows_more(chosen).issuperset(chosen):
            return Asked(turn, typed=turn.text)
        words = self.services.senses.wording(turn.text)
        if not words:
            raise IntakeError(NO_WORDS)
        return Asked(Turn("user", text=words), typed=turn.text)

    def _ask(
        self,
        session: Session,
        left: str,
        right: str,
        make_asked: Callable[[], Asked],
        settings: tuple,
        request: gr.Request,
        again: bool = False,
    ) -> Iterator[Updates]:
        try:
            yield from self._answered(session, left, right, make_asked, settings, request, again)
        except EXPECTED as error:
            yield self._told(session, discretion.told(error))
        except Exception as error:
            # The page is the outermost boundary: the log gets the traceback, the visitor a sentence.
            traceback.print_exc(file=sys.stderr)
            yield self._told(
                session, f"Something went wrong here ({type(error).__name__}), and was logged. Try again, or press New."
            )

    def _answered(
        self,
        session: Session,
        left: str,
        right: str,
        make_asked: Callable[[], Asked],
        settings: tuple,
        request: gr.Request,
        again: bool,
    ) -> Iterator[Updates]:
        chosen = _chosen(left, right)
        if not chosen or session.conversation is None:
            raise CheckpointError(NO_CHECKPOINT)
        if chosen != session.conversation.checkpoints:
            session = fresh(chosen)
        wish = Wish.of(*settings, limit_seconds=self.services.settings.limits.reply_seconds)
        asked = make_asked()
        stop = self.services.stops.begin(request.session_hash, chosen)
        with turn_of(self.services, request) as turn:
            yield from self._in_turn(session, chosen, asked, wish, stop, turn, request, again)

    def _in_turn(
        self,
        session: Session,
        chosen: tuple[str, ...],
        asked: Asked,
        wish: Wish,
        stop: threading.Event,
        turn: line.Turn,
        request: gr.Request,
        again: bool,
    ) -> Iterator[Updates]:
        widgets = self.widgets
        pending = Live(asked, tuple(LiveSide() for _ in chosen))
        yield {
            widgets.stage: self._stage(session, pending, status=self._loading(chosen), autoplay=wish.autoplay),
            widgets.recording: None,
            widgets.text: "",
            widgets.send: gr.Button(visible=False),
            widgets.stop: gr.Button(visible=True),
            widgets.again: gr.Button(interactive=False),
            widgets.new: gr.Button(interactive=True),
            widgets.download: gr.DownloadButton(interactive=False),
            widgets.seed: wish.sampling.seed,
        }
        for ahead in turn.waiting(stop):
            told = line.words(ahead)
            yield {widgets.stage: self._stage(session, pending, status=told, autoplay=wish.autoplay)}
        if stop.is_set():
            if self.services.stops.is_current(request.session_hash, stop):
                raise IntakeError(UNASKED)
            return
        loading = self.services.loading(chosen)
        while True:
            try:
                told = next(loading)
            except StopIteration as end:
                answering = end.value
                break
            yield {widgets.stage: self._stage(session, pending, status=told, autoplay=wish.autoplay)}
        outgoing, pace = view.Outgoing(), Pace()
        with (
            self.services.under_way.answering(stop),
            closing(answering.run(session.conversation, asked, wish.sampling, stop, even_if_outside=again)) as run,
        ):
            while True:
                try:
                    live = next(run)
                except StopIteration as end:
                    exchange: Exchange = end.value
                    break
                if pace.is_due(live):
                    yield {widgets.stage: self._stage(session, live, outgoing, autoplay=wish.autoplay)}
        if not self.services.stops.is_current(request.session_hash, stop):
            return
        session = self._kept(session, exchange)
        # The page may take several updates at once and then keeps only the last: each says all that matters.
        yield {**self._idle(session), widgets.stage: self._stage(session, autoplay=wish.autoplay)}

    def _kept(self, session: Session, exchange: Exchange) -> Session:
        """The session with a finished exchange whose audio the page can fetch."""
        answers = tuple(
            replace(answer, audio=self.services.recordings.put(answer.reply.waveform))
            if len(answer.reply.waveform.samples)
            else answer
            for answer in exchange.answers
        )
        return replace(session, conversation=session.conversation.plus(replace(exchange, answers=answers)))

    def _idle(self, session: Session) -> Updates:
        widgets = self.widgets
        said = bool(session.conversation and session.conversation.exchanges)
        return {
            widgets.state: session,
            widgets.send: gr.Button(visible=True),
            widgets.stop: gr.Button(visible=False),
            widgets.again: gr.Button(interactive=said),
            widgets.new: gr.Button(interactive=said),
        }

    def _told(self, session: Session, sentence: str) -> Updates:
        """One sentence on the page; the conversation and what was typed stay."""
        said = bool(session.conversation and session.conversation.exchanges)
        return {
            **self._idle(session),
            self.widgets.stage: self._stage(session, error=sentence),
            self.widgets.recording: None,
            self.widgets.download: gr.DownloadButton(interactive=said),
        }

    def _loading(self, names: tuple[str, ...]) -> str | None:
        if self.services.is_loaded(names):
            return None
        return f"Loading {' and '.join(dict.fromkeys(names))} …"

    def _stage(self, session: Session, *live: Any, **how: Any) -> view.Json:
        if session.conversation is None:
            return {"conversation": session.key, "exchanges": [], "error": how.get("error") or NO_CHECKPOINT}
        return view.stage(session.key, session.conversation, *live, **how)


def slider_values(sampling: Sampling, longest_seconds: float) -> dict[str, float]:
    """What the sliders show of a sampling; what lies beyond a slider stands at its end."""
    speech = sampling.temperature if sampling.speech_temperature is None else sampling.speech_temperature
    shown = {
        **asdict(sampling),
        "speech_temperature": speech,
        "max_seconds": min(sampling.max_seconds, longest_seconds),
    }
    return {name: min(max(shown[name], least), most) for name, (least, most) in SLIDERS.items()}


def _chosen(left: str | None, right: str | None) -> tuple[str, ...]:
    return tuple(name for name in (left, right) if name and name != NO_SECOND)
