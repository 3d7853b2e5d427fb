"""Votes while the process is killed: ``python -m tests.app.crash_votes --votes 200``.

Children vote as the page does, three raters at once, and are killed (SIGKILL) at random moments; the next one goes on
where the last was killed, as a browser that sends its vote again would. A vote is acknowledged when its receipt was
written to the parent's pipe. In the end every acknowledged vote is there, no battle has two, every vote has its audio,
and the database passes its own integrity check.
"""

from __future__ import annotations

import argparse
import os
import random
import select as readable
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from sqlalchemy import func, select, text

from app.battles import BattleError, Rules
from app.store import open_store
from app.store.schema import ReplyRow, Retraction, VoteRow
from tests.app.arena import FakeSpeakers, make_arena, spoken
from wavalign.models import protocol  # noqa: F401  (imports torch, before children are forked)

RATERS = ("b-1", "b-2", "b-3")
#: Nothing has to be heard: this is about the disk.
RULES = Rules(listen_least=0.0, listen_share=0.0)


def choice_of(battle: str) -> int:
    """The same whenever it is asked: what is sent again is the same vote."""
    return int(battle[:8], 16) % 7 - 3


def child(home: Path, pipe: int, seed: int) -> None:
    """Votes until it is killed; the clock is real, because the database outlives the process."""
    store = open_store(home)
    arena = make_arena(store, FakeSpeakers(seconds=0.3), rules=RULES, seed=seed)
    arena.voting.staging.clock = arena.voting._now = time.time
    arena.voting.sweep()

    def rater_at_work(rater: str) -> None:
        voting = arena.join(rater) and arena.voting
        while True:
            battle = voting.current(rater)
            try:
                if battle is None or voting.progress(battle, rater).stage == "voted":
                    # Votes that were not acknowledged are sent again first.
                    if battle is not None:
                        _acknowledge(pipe, voting.vote(battle, rater, choice_of(battle)).receipt, battle)
                    battle = voting.open(rater, spoken(150 + random.random() * 100)).battle
                voting.deliver(battle, rater)
                _acknowledge(pipe, voting.vote(battle, rater, choice_of(battle)).receipt, battle)
            except BattleError as error:
                if error.code not in ("void", "unheard", "asked"):
                    raise

    threads = [threading.Thread(target=rater_at_work, args=(rater,)) for rater in RATERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _acknowledge(pipe: int, receipt: str, battle: str) -> None:
    os.write(pipe, f"{receipt} {battle}\n".encode())


def crash(home: Path, votes: int, kills: int, seed: int) -> tuple[dict[str, str], int]:
    """Kills at least ``kills`` children, and on until that many votes were acknowledged.

    Returns battle by receipt, and the number of kills.
    """
    moments, acknowledged, killed = random.Random(seed), {}, 0
    open_store(home).close()
    while len(acknowledged) < votes or killed < kills:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            try:
                child(home, writing, seed + killed)
            finally:
                os._exit(1)  # a child ends by being killed; anything else is a fault
        os.close(writing)
        if moments.random() < 0.9:  # the others are killed while they open the database
            readable.select([reading], [], [], 30)
        time.sleep(moments.uniform(0.0, 0.6))
        os.kill(pid, signal.SIGKILL)
        with os.fdopen(reading, "rb") as pipe:
            for line in pipe.read().decode().splitlines(keepends=True):
                if line.endswith("\n"):
                    receipt, battle = line.split()
                    acknowledged[receipt] = battle
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            raise RuntimeError("a child ended by itself")
        killed += 1
    return acknowledged, killed


def check(home: Path, acknowledged: dict[str, str]) -> dict[str, object]:
    """What must hold afterwards, as counts that must be zero and the integrity check's answer."""
    store = open_store(home)
    with store.reading() as session:
        stored = dict(session.execute(select(VoteRow.id, VoteRow.battle)).all())
        standing = (
            select(VoteRow.battle, func.count())
            .outerjoin(Retraction, Retraction.vote == VoteRow.id)
            .where(Retraction.id.is_(None))
            .group_by(VoteRow.battle)
        )
        twice = sum(count > 1 for _, count in session.execute(standing))
        silent = 0
        for battle in stored.values():
            replies = session.scalars(select(ReplyRow).where(ReplyRow.battle == battle)).all()
            try:
                silent += len(replies) != 2 or not all(
                    store.audio.get(name) for each in replies for name in (each.audio, each.presented)
                )
            except RuntimeError:
                silent += 1
        integrity = session.execute(text("PRAGMA integrity_check")).scalar()
        broken_keys = len(session.execute(text("PRAGMA foreign_key_check")).all())
    store.close()
    return {
        "acknowledged": len(acknowledged),
        "stored": len(stored),
        "lost": sum(stored.get(receipt) != battle for receipt, battle in acknowledged.items()),
        "twice": twice,
        "without_audio": silent,
        "broken_keys": broken_keys,
        "integrity": integrity,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--votes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=1, help="the least of them, however fast the votes come")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wavalign-crash-") as folder:
        acknowledged, kills = crash(Path(folder), options.votes, options.kills, options.seed)
        found = check(Path(folder), acknowledged)
    print(f"kills {kills}", *(f"{name} {value}" for name, value in found.items()), sep=", ")
    whole = all(found[name] == 0 for name in ("lost", "twice", "without_audio", "broken_keys"))
    return 0 if whole and found["integrity"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
