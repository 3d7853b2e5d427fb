"""One exchange with real, tiny, untrained checkpoints."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace

import numpy as np
import pytest

from app.answering import ONLY_HEARS, OUTSIDE_SPOKEN, OUTSIDE_TYPED, UNHEARD, Answering, AsRecommended, Heard
from app.conversation import Asked, Conversation, Figures
from app.pages.talk_handlers import Wish, slider_values
from app.services import Services, Stops
from app.settings import Settings, SettingsError
from tests.app.assets import make_tiny_assets
from wavalign.audio import Waveform
from wavalign.dialogue import Reply, Turn
from wavalign.models.protocol import CheckpointError, Sampling

NAMES = ("closedtalk-base", "closedtalk-tuned")
SHORT = Sampling(max_tokens=60, max_seconds=2, seed=3)
SUM = Asked(Turn("user", text="one plus one"))
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


class Listening:
    """Answers with a hum, and keeps what it was asked with."""

    def __init__(self) -> None:
        self.samplings: list[Sampling] = []

    def stream_many(self, requests, stop):
        self.samplings = [request.sampling for request in requests]
        yield from ()
        return [Reply("one", hum(), (1,)) for _ in requests]


def test_a_reply_may_have_as_many_tokens_as_its_checkpoint_recommends():
    """A second of speech is 12 tokens of one model and 200 of another; the page sets seconds, temperatures and seed."""
    model = Listening()
    recommended = {NAMES[0]: Sampling(max_tokens=4096, repetition_window=64, repetition_penalty=1.1, temperature=0.1)}
    run(Answering(model, Hearing(), recommended=recommended), even_if_outside=True)
    asked = model.samplings
    assert [each.max_tokens for each in asked] == [4096, SHORT.max_tokens]
    assert [(each.repetition_window, each.repetition_penalty) for each in asked] == [(64, 1.1), (0, 1.0)]
    assert asked[0].temperature == asked[1].temperature


OMNI = Sampling(0.7, 0.9, 40, 0.8, 64, 1.05, max_seconds=40.0, max_tokens=2048)
KIMI = Sampling(0.0, 0.8, 10, 1.0, 64, 1.0, max_seconds=60.0, max_tokens=1500)
SMALL = Sampling(0.7, 0.3, 0, 0.95, max_seconds=8.0, max_tokens=400)


@pytest.mark.parametrize("pair", [(OMNI, KIMI), (SMALL, OMNI), (KIMI, SMALL)], ids=["large", "beside", "left"])
def test_until_a_slider_is_moved_each_side_is_sampled_as_its_checkpoint_recommends(pair):
    """All of it, but for the seed and the seconds beyond what the host allows; the answer tells what was used."""
    model = Listening()
    answering = Answering(model, Hearing(), recommended=dict(zip(NAMES, pair, strict=True)))
    exchange = whole(answering.run(Conversation(NAMES), SUM, AsRecommended(5, 12.0), threading.Event()))
    expected = [replace(own, max_seconds=min(own.max_seconds, 12.0), seed=5) for own in pair]
    assert model.samplings == expected
    assert [answer.sampling for answer in exchange.answers] == [asdict(each) for each in expected]
    assert exchange.sampling == {"as_recommended": True, "seed": 5}


def test_a_checkpoint_beside_itself_as_it_recommends_has_another_seed():
    model = Listening()
    answering = Answering(model, Hearing(), recommended={NAMES[0]: OMNI})
    whole(answering.run(Conversation((NAMES[0],) * 2), SUM, AsRecommended(5, 60.0), threading.Event()))
    assert model.samplings == [replace(OMNI, seed=5), replace(OMNI, seed=6)]


def test_sliders_that_were_moved_hold_for_both_sides():
    model = Listening()
    answering = Answering(model, Hearing(), recommended={NAMES[0]: OMNI, NAMES[1]: KIMI})
    moved = Sampling(1.1, 0.5, 7, 0.6, max_seconds=3.0, seed=4)
    exchange = whole(answering.run(Conversation(NAMES), SUM, moved, threading.Event()))
    of_sliders = [
        (each.temperature, each.speech_temperature, each.top_k, each.top_p, each.max_seconds)
        for each in model.samplings
    ]
    assert of_sliders == [(1.1, 0.5, 7, 0.6, 3.0)] * 2
    assert exchange.sampling == {"as_recommended": False, "seed": 4}


def test_the_page_s_wish_is_the_recommendation_until_it_is_turned_off():
    values = (0.7, 0.3, 0.95, 0, 40, 5, True, False)
    assert Wish.of(True, *values, limit_seconds=12.0).sampling == AsRecommended(5, 12.0)
    assert Wish.of(False, *values, limit_seconds=12.0).sampling == Sampling(0.7, 0.3, 0, 0.95, max_seconds=12.0, seed=5)


def test_the_sliders_show_what_is_recommended_as_far_as_they_go():
    assert slider_values(KIMI, 12.0) == {
        "temperature": 0.0,
        "speech_temperature": 0.8,
        "top_p": 1.0,
        "top_k": 10,
        "max_seconds": 12.0,
    }
    assert slider_values(Sampling(2.0, max_seconds=0.5), 12.0)["speech_temperature"] == 1.5


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
    assert stops.last_asked("them") == ()
    asked = stops.begin("them", ("base", "tuned"))
    assert theirs.is_set()
    assert stops.last_asked("them") == ("base", "tuned")
    stops.forget("them")
    assert asked.is_set()
    assert stops.last_asked("them") == ()
    assert not stops.is_current("them", theirs)


def test_a_port_that_is_none_is_named():
    with pytest.raises(SettingsError, match="WAVALIGN_PORT"):
        Settings.from_environment({"WAVALIGN_PORT": "many"})
