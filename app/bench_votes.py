"""How long a vote takes when many people vote at once: ``python -m app.bench_votes [--clients 64] [--json]``.

Every client has its own rater and its own battles, heard and waiting; all start together and vote one after another.
A vote is measured as the page calls it: ownership, stage and listening checked, one durable transaction, the receipt.
Without ``--database`` it is SQLite in a folder of its own, which is deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.battles import SIDES, BattleError
from app.equaliser import equalise
from app.staging import Staging
from app.store import Store, StoreError, open_store, queries
from app.store.schema import (
    BattleRow,
    Consent,
    Delivery,
    Playback,
    Rater,
    Release,
    ReplyRow,
    TurnRow,
)
from app.store.tallies import tallies
from app.voting import Voting
from wavalign.arguments import whole
from wavalign.audio import Waveform

_RATE = 16_000


def run(store: Store, clients: int, votes_each: int, seed: int = 0) -> dict[str, float | int | str]:
    """Seconds and counts. ``lost``: votes that were acknowledged and cannot be read back."""
    run_id = secrets.token_hex(4)
    battles = _prepare(store, clients, votes_each, run_id, seed)
    voting = Voting(Staging(store, speakers=None))
    start = threading.Barrier(clients + 1)
    took: list[list[float]] = [[] for _ in range(clients)]
    receipts: list[list[str]] = [[] for _ in range(clients)]
    refused: list[str] = []

    def client(number: int) -> None:
        choices = random.Random(seed + number)
        start.wait()
        for battle in battles[number]:
            began = time.perf_counter()
            try:
                receipt = voting.vote(battle, f"bench-{run_id}-{number}", choices.randint(-3, 3))
            except BattleError as error:
                refused.append(error.code)
                continue
            took[number].append(time.perf_counter() - began)
            receipts[number].append(receipt.receipt)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    began = time.process_time()
    stored = {vote.vote for vote in queries.votes(store, counted_only=False)}
    read = time.process_time() - began
    began = time.process_time()
    tallies(store, "simulated")
    tallied = time.process_time() - began
    acknowledged = [receipt for each in receipts for receipt in each]
    times = np.array([seconds for each in took for seconds in each])
    return {
        "database": store.engine.dialect.name,
        "clients": clients,
        "votes": len(acknowledged),
        "refused": len(refused),
        "lost": sum(receipt not in stored for receipt in acknowledged),
        "p50_ms": round(1000 * float(np.percentile(times, 50)), 2),
        "p95_ms": round(1000 * float(np.percentile(times, 95)), 2),
        "max_ms": round(1000 * float(times.max()), 2),
        "votes_per_second": round(len(acknowledged) / wall, 1),
        "reading_us": round(1e6 * read / len(stored), 1),
        "tally_us": round(1e6 * tallied / len(stored), 1),
    }


def _prepare(store: Store, clients: int, votes_each: int, run_id: str, seed: int) -> list[list[str]]:
    """Battles that were heard a minute ago; their rows as staging writes them, their audio shared."""
    rng, now = np.random.default_rng(seed), time.time() - 60
    hum = np.sin(2 * np.pi * 150 * np.arange(_RATE) / _RATE).astype(np.float32) / 4
    heard = equalise({side: Waveform(hum, _RATE) for side in SIDES}, rng)
    files = {side: store.audio.put(heard[side].wav) for side in SIDES}
    battles: list[list[str]] = []
    for number in range(clients):
        rater = f"bench-{run_id}-{number}"
        battles.append([secrets.token_hex(16) for _ in range(votes_each)])
        with store.writing() as session:
            session.add(Rater(id=rater, at=now, source="simulated"))
            session.flush()
            session.add(Consent(id=secrets.token_hex(16), rater=rater, at=now, level="research"))
            for battle in battles[-1]:
                session.add(_battle(battle, rater, now))
            session.flush()
            for battle in battles[-1]:
                session.add_all(_heard(battle, now, files, heard["left"].seconds, heard["left"].file_seconds))
    return battles


def _battle(battle: str, rater: str, now: float) -> BattleRow:
    return BattleRow(
        id=battle,
        at=now,
        rater=rater,
        source="simulated",
        kind="ordinary",
        left="one",
        right="two",
        sampling={},
        propensity=1.0,
        choice={"rule": "benchmark"},
        consent="research",
        category="",
        language="en",
    )


def _heard(battle: str, now: float, files: dict[str, str], seconds: float, file_seconds: float) -> list[object]:
    def key() -> dict[str, object]:
        return {"id": secrets.token_hex(16), "battle": battle, "number": 0, "at": now}

    rows: list[object] = [TurnRow(**key(), text="benchmark"), Release(**key())]
    for side in SIDES:
        rows += [
            ReplyRow(
                **key(),
                side=side,
                text="benchmark",
                finished=True,
                audio=files[side],
                presented=files[side],
                seconds=seconds,
                file_seconds=file_seconds,
                measures={},
                equalised={},
            ),
            Delivery(**key(), side=side),
            Playback(**(key() | {"at": now + 30}), side=side, start=0.0, end=file_seconds),
        ]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.bench_votes", description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=whole(1), default=64)
    parser.add_argument("--votes", type=whole(1), default=20, help="of each client")
    parser.add_argument("--database", help="a postgresql:// URL; its rows stay there")
    parser.add_argument("--folder", type=Path, help="where the folder is made (default: beside other temporary files)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="wavalign-bench-", dir=options.folder) as home:
        try:
            store = open_store(Path(home), options.database)
        except StoreError as error:
            print(error, file=sys.stderr)
            return 1
        result = run(store, options.clients, options.votes)
        store.close()
    if options.json:
        print(json.dumps(result))
    else:
        print(
            f"{result['votes']} votes of {result['clients']} clients on {result['database']}: "
            f"p50 {result['p50_ms']} ms, p95 {result['p95_ms']} ms, slowest {result['max_ms']} ms, "
            f"{result['votes_per_second']} a second, {result['lost']} lost, {result['refused']} refused; "
            f"processor time a vote in the database: {result['reading_us']} us to read it, "
            f"{result['tally_us']} us to tally it"
        )
    return 1 if result["lost"] or result["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
