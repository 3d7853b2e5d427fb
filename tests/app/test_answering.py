"""One exchange with real, tiny, untrained checkpoints."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from app.answering import ONLY_HEARS, OUTSIDE_SPOKEN, OUTSIDE_TYPED, UNHEARD, Answering, Heard
from app.conversation import Asked, Conversation, Figures
from app.services import Services, Stops
from app.settings import Settings, SettingsError
from tests.app.assets import make_tiny_assets
from wavalign.audio import Waveform
from wavalign.dialogue import Reply, Turn
from wavalign.models.protocol import CheckpointError, Sampling

NAMES = ("closedtalk-base", "closedtalk-tuned")
SHORT = Sampling(max_tokens=60, max_seconds=2, seed=3)
HOT = Asked(Turn("user", text="what is the opposite of hot"))


@pytest.fixture(scope="module")
def services(tmp_path_factory) -> Services:
    folder = tmp_path_factory.mktemp("app")
    return Services(Settings(folder / "home", make_tiny_assets(folder / "assets")))


def hum(seconds: float = 0.5) -> Waveform:
    clock = np.arange(int(16_000 * seconds)) / 16_000
    return Waveform(0.2 * np.sin(2 * np.pi * 150 * clock), 16_000)


class Hearing:
    """Hears what it is told to, and knows only sums."""

    def __init__(self, heard: Heard | None = None) -> None:
        self.heard = heard

    def hear(self, waveform):
        return self.heard

    def knows(self, text, history):
        return "plus" in text

    def gauge(self, reply):
        return Figures(), None


def run(answering: Answering, asked: Asked = HOT, names=NAMES, stop=None, **how):
    """All that was yielded, and the exchange."""
    steps = []
    return steps, whole(answering.run(Conversation(names), asked, SHORT, stop or threading.Event(), **how), steps)


def whole(generator, steps=None):
    """What the generator returns, having yielded the rest into ``steps``."""
    while True:
        try:
            step = next(generator)
        except StopIteration as end:
            return end.value
        if steps is not None:
            steps.append(step)


def test_both_sides_stream_and_are_measured(services):
    steps, exchange = run(services.answering(NAMES))
    assert [answer.checkpoint for answer in exchange.answers] == list(NAMES)
    for side, answer in enumerate(exchange.answers):
        streamed = np.concatenate([each.samples for each in steps[-1].sides[side].audio])
        np.testing.assert_allclose(streamed, answer.reply.waveform.samples, atol=1e-6)
        assert steps[-1].sides[side].text.strip() == answer.reply.text.strip()
        assert answer.figures.first_audio_seconds > 0
        assert answer.figures.real_time_factor > 0
    assert steps[-1].measuring
    assert exchange.sampling["seed"] == 3


def test_a_checkpoint_beside_itself_says_something_else(services):
    _, exchange = run(services.answering(NAMES[:1]), names=(NAMES[0], NAMES[0]))
    assert exchange.answers[0].reply.tokens != exchange.answers[1].reply.tokens


def test_a_reply_may_have_as_many_tokens_as_its_checkpoint_recommends(services):
    """A second of speech is 12 tokens of one model and 200 of another; the page sets seconds, temperatures and seed."""
    asked: list[Sampling] = []

    class Model:
        def stream_many(self, requests, stop):
            asked.extend(request.sampling for request in requests)
            yield from ()
            return [Reply("one", hum(), (1,)) for _ in requests]

    recommended = {NAMES[0]: Sampling(max_tokens=4096, repetition_window=64, repetition_penalty=1.1, temperature=0.1)}
    run(Answering(Model(), Hearing(), recommended=recommended), even_if_outside=True)
    assert [each.max_tokens for each in asked] == [4096, SHORT.max_tokens]
    assert [(each.repetition_window, each.repetition_penalty) for each in asked] == [(64, 1.1), (0, 1.0)]
    assert asked[0].temperature == asked[1].temperature


def test_a_model_that_only_hears_is_asked_what_is_typed_with_a_note(services):
    model = services.answering(NAMES).model
    deaf = Answering(model, Hearing(), knows_more=frozenset(NAMES), only_hear=frozenset(NAMES[1:]))
    _, exchange = run(deaf)
    assert exchange.asked.note == ONLY_HEARS.format(NAMES[1])
    assert len(exchange.answers) == 2
    _, exchange = run(deaf, Asked(Turn("user", speech=hum())))
    assert exchange.asked.note is None
    assert services.only_hear(NAMES) == frozenset()


def test_a_typed_turn_outside_the_world_is_not_asked_unless_insisted_on(services):
    model = services.answering(NAMES).model
    steps, exchange = run(Answering(model, Hearing()))
    assert (steps, exchange.answers, exchange.asked.note) == ([], (), OUTSIDE_TYPED)
    _, exchange = run(Answering(model, Hearing()), even_if_outside=True)
    assert len(exchange.answers) == 2
    assert exchange.asked.note is None


@pytest.mark.parametrize(
    ("heard", "note"),
    [
        (Heard("one plus one", 0.9), None),
        (Heard("the weather", 0.9), OUTSIDE_SPOKEN),
        (Heard("one plus one", 0.1), UNHEARD),
        (Heard("", 0.0), UNHEARD),
        (None, None),
    ],
)
def test_a_spoken_turn_is_answered_with_a_note_when_it_seems_outside(services, heard, note):
    _, exchange = run(Answering(services.answering(NAMES).model, Hearing(heard)), Asked(Turn("user", speech=hum())))
    assert exchange.asked.note == note
    assert len(exchange.answers) == 2


def test_stopping_ends_the_reply_and_keeps_what_was_said(services):
    stop = threading.Event()
    generator = services.answering(NAMES).run(Conversation(NAMES), HOT, Sampling(seed=3), stop)
    for step in generator:
        if any(side.audio for side in step.sides):
            break
    stop.set()
    exchange = whole(generator)
    assert all(answer.stopped or answer.reply.finished for answer in exchange.answers)
    assert exchange.answers[0].reply.waveform.seconds < 10


def test_an_unusable_checkpoint_is_one_sentence(services):
    with pytest.raises(CheckpointError, match="nowhere"):
        services.answering(("nowhere",))


def test_loading_is_done_once(services):
    assert services.answering(NAMES).model is services.answering(NAMES[::-1]).model
    assert services.is_loaded(NAMES)
    assert services.names()[0] == "closedtalk-base"


def test_a_new_request_stops_the_visitor_s_last_one_and_nobody_else_s():
    stops = Stops()
    mine, theirs = stops.begin("me"), stops.begin("them")
    newer = stops.begin("me")
    assert (mine.is_set(), theirs.is_set(), newer.is_set()) == (True, False, False)
    assert (stops.is_current("me", mine), stops.is_current("me", newer)) == (False, True)
    stops.stop("me")
    assert newer.is_set()
    assert stops.is_current("me", newer)
    stops.forget("them")
    assert theirs.is_set()
    assert not stops.is_current("them", theirs)


def test_a_port_that_is_none_is_named():
    with pytest.raises(SettingsError, match="WAVALIGN_PORT"):
        Settings.from_environment({"WAVALIGN_PORT": "many"})
