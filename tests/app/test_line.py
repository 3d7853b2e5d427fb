"""Who waits for the models is served in turn, is told how many are before them, and is never one too many."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from app.access import Role
from app.callers import SCOPE, Caller
from app.line import BusyError, Line, Turn, words
from app.standing import Listeners, turn_of

GO_ON = threading.Event()


def served(turn: Turn) -> bool:
    """Whether its turn is there, without waiting for long."""
    steps = turn.waiting(GO_ON)
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    return False


def test_a_few_are_served_at_once_and_the_next_when_one_goes() -> None:
    line = Line(at_once=2, waiting=5)
    one, two, three = line.turn(), line.turn(), line.turn()
    first, second, third = one.__enter__(), two.__enter__(), three.__enter__()
    assert [served(turn) for turn in (first, second, third)] == [True, True, False]
    assert len(line) == 1
    two.__exit__(None, None, None)
    assert served(third)
    assert len(line) == 0


def test_each_is_told_how_many_are_before_them_until_it_is_their_turn() -> None:
    line = Line(at_once=1, waiting=5)
    turns = [line.turn() for _ in range(4)]
    entered = [turn.__enter__() for turn in turns]
    steps = entered[3].waiting(GO_ON)
    assert next(steps) == 2
    turns[1].__exit__(None, None, None)  # somebody before them leaves without having been served
    assert next(steps) == 1
    turns[0].__exit__(None, None, None)
    assert next(steps) == 0
    turns[2].__exit__(None, None, None)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is True


def test_one_too_many_is_told_how_many_wait_and_takes_no_place() -> None:
    line = Line(at_once=1, waiting=2)
    places = [line.turn() for _ in range(3)]
    for place in places:
        place.__enter__()
    with pytest.raises(BusyError, match="2 wait already"):
        line.turn().__enter__()
    assert len(line) == 2


def test_who_stops_waiting_leaves_the_line() -> None:
    line, stop = Line(at_once=1, waiting=2), threading.Event()
    with line.turn(), line.turn() as turn:
        steps = turn.waiting(stop)
        assert next(steps) == 0
        stop.set()
        with pytest.raises(StopIteration) as end:
            next(steps)
        assert end.value.value is False
    assert len(line) == 0


def test_one_address_has_a_few_places_and_leaves_the_others_to_others() -> None:
    line = Line(at_once=1, waiting=4, of_one=2)
    with line.turn("a"), line.turn("a"):
        with pytest.raises(BusyError, match="2 questions from your network wait already"):
            line.turn("a").__enter__()
        with line.turn("b"), line.turn(), line.turn():  # the host has no bound but the line's
            assert len(line) == 4
    with line.turn("a"):
        assert len(line) == 0


def test_who_never_listens_loses_the_place_and_who_connects_in_time_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.line.GONE_SECONDS", 0.2)
    monkeypatch.setattr("app.line.STOP_SECONDS", 0.05)
    monkeypatch.setattr("app.line.AGAIN_SECONDS", 0.3)
    line, stop, listeners = Line(at_once=1, waiting=4), threading.Event(), Listeners()
    with line.turn():
        with line.turn("a", lambda: listeners.has("tab")) as turn:
            steps = turn.waiting(stop)
            with listeners.listening("tab"):
                assert [next(steps), next(steps), next(steps)] == [0, 0, 0]
            list(steps)
            assert stop.is_set()
        assert len(line) == 0


def test_the_host_and_this_machine_have_no_bound_and_others_are_known_by_a_hash() -> None:
    taken = []
    services = SimpleNamespace(
        line=SimpleNamespace(turn=lambda *who: taken.append(who[:1])),
        raters=SimpleNamespace(address=lambda address: f"#{address}"),
        listeners=Listeners(),
    )
    for caller in (Caller(Role.HOST, None, "192.0.2.1"), Caller(address="127.0.0.1"), Caller(address="192.0.2.1")):
        turn_of(services, SimpleNamespace(scope={SCOPE: caller}, session_hash="tab"))
    assert taken == [(), (), ("#192.0.2.1",)]


def test_many_at_once_are_all_served_and_never_more_than_may_be() -> None:
    line, together, most, done = Line(at_once=3, waiting=50), 0, 0, []
    lock = threading.Lock()

    def visit() -> None:
        nonlocal together, most
        with line.turn() as turn:
            list(turn.waiting(GO_ON))
            with lock:
                together += 1
                most = max(most, together)
            time.sleep(0.002)
            with lock:
                together -= 1
                done.append(turn)

    threads = [threading.Thread(target=visit) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 40
    assert most <= 3


def test_the_words_of_waiting() -> None:
    assert [words(ahead) for ahead in (0, 1, 7)] == [
        "You are next.",
        "Others are being answered. 1 waits before you.",
        "Others are being answered. 7 wait before you.",
    ]
