"""What may not be kept goes without a visitor, and goes on going after a failure."""

from __future__ import annotations

import threading
from pathlib import Path

from app.store import open_store
from app.tidying import Tidying
from tests.app.arena import make_arena, spoken


def test_recordings_that_allow_no_use_are_erased_while_nobody_visits(tmp_path: Path) -> None:
    arena = make_arena(open_store(tmp_path))
    store, swept = arena.voting.store, threading.Semaphore(0)
    arena.join(level="nothing")
    arena.revealed(asked=spoken())

    def sweep() -> None:
        arena.voting.sweep()
        swept.release()

    tidying = Tidying(sweep, seconds=0.05).start()
    assert swept.acquire(timeout=20)
    assert len(set(store.audio.names())) == 5  # within the quarter of an hour they stay
    arena.clock.forward(1000)
    while swept.acquire(blocking=False):  # what is over may have begun before the clock moved
        pass
    for _ in range(2):  # and so may the first of these
        assert swept.acquire(timeout=20)
    assert list(store.audio.names()) == []
    tidying.stop(20)
    while swept.acquire(blocking=False):
        pass
    assert not swept.acquire(timeout=0.1)
    store.close()


def test_what_was_due_while_nothing_ran_is_erased_at_the_start() -> None:
    swept = threading.Event()
    tidying = Tidying(swept.set, seconds=1000).start()
    assert swept.wait(20)
    tidying.stop(20)


def test_a_failure_is_told_once_and_the_next_sweep_is_tried() -> None:
    told: list[str] = []
    tries, enough = iter(range(4)), threading.Event()

    def sweep() -> None:
        if next(tries) == 3:
            enough.set()
            tidying._ended.set()
        raise OSError("the disk is away")

    tidying = Tidying(sweep, seconds=0.001, told=told.append)
    tidying.start()
    assert enough.wait(20)
    tidying.stop(20)
    assert len(told) == 1
    assert told[0].startswith("What may not be kept was not erased (OSError")
