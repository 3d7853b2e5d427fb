"""The log itself as shards: what a copy holds, and a database made again from copies.

A shard is one parquet file under a name that never comes again, with rows of all tables and the recordings that they
name. Nothing is ever appended to one, so that a copy is whole or absent.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import func, inspect, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.battles import Rules
from app.export_parquet import AUDIO, with_features
from app.store import Store, histories, queries
from app.store.schema import (
    CONTENTS,
    TABLES,
    Base,
    BattleRow,
    ErasedBattle,
    Rater,
    Release,
    RevealRow,
    TurnRow,
    VoidRow,
    VoteRow,
)

Level = Literal["publish", "everything"]
"""``publish``: people's battles whose raters allow it. ``everything``: a private backup of this host."""
AUDIO_KIND = "audio"
SCHEMA = with_features(
    pa.schema({"table": pa.string(), "key": pa.string(), "battle": pa.string(), "row": pa.string(), "audio": AUDIO})
)
_BY_NAME = {table.__tablename__: table for table in TABLES}
_AUDIO_COLUMNS = {"turns": ("audio",), "replies": ("audio", "presented")}
#: Never leave this host: not needed by anybody else.
_WITHHELD = {"battles": ("address",)}

Key = tuple[str, str]
"""Table and primary key; for a recording ``("audio", sha256)``."""


class ShardError(RuntimeError):
    """Shards that cannot be read or that do not make a whole; the message is one sentence."""


@dataclass(frozen=True)
class Entry:
    key: Key
    battle: str | None
    row: Mapping[str, Any] | None = None


def entries(session: Session, level: Level, now: float, rules: Rules | None = None) -> Iterator[Entry]:
    """All rows that belong into copies of this level at server time ``now``, parents before children, each with its
    recordings.

    Erased battles stay in as blank rows with their tombstones: that is how copies learn of it. What is published says
    who was who, so a battle that can still be voted on is left out.
    """
    allowed = _allowed(session, level)
    if level != "everything":
        allowed = _over(session, allowed, now, rules or Rules())
    votes = dict(session.execute(select(VoteRow.id, VoteRow.battle)).all())
    raters = set(session.scalars(select(BattleRow.rater).where(BattleRow.id.in_(allowed)))) if allowed else set()
    for table in TABLES:
        for row in session.scalars(select(table).order_by(*inspect(table).primary_key)):
            values = _values(row)
            battle = _battle_of(table, values, votes)
            if battle is not None:
                if battle not in allowed:
                    continue
            elif level != "everything":  # about a rater
                rater = values["id"] if table is Rater else values["rater"]
                if rater not in raters:
                    continue
            yield Entry((table.__tablename__, _key(row)), battle, values)
            for column in _AUDIO_COLUMNS.get(table.__tablename__, ()):
                if values[column]:
                    yield Entry((AUDIO_KIND, values[column]), battle)


def write_shard(store: Store, folder: Path, chosen: Iterable[Entry]) -> Path | None:
    """One shard of these entries, whole when it has its name; None when there are none."""
    name = f"log-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(8)}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    draft, count = folder / f".{name}.part", 0
    try:
        with pq.ParquetWriter(draft, SCHEMA, compression="zstd") as writer:
            batch: list[dict[str, Any]] = []
            for entry in chosen:
                batch.append(_written(store, entry))
                count += 1
                if len(batch) == 256:
                    writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
                    batch = []
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
        if not count:
            return None
        return draft.replace(folder / name)
    finally:
        draft.unlink(missing_ok=True)


def keys_of(shard: Path) -> dict[Key, str | None]:
    """What a shard holds, and of which battle."""
    table = pq.read_table(shard, columns=["table", "key", "battle"]).to_pylist()
    return {(each["table"], each["key"]): each["battle"] for each in table}


@dataclass(frozen=True)
class Rebuilt:
    """``rows`` were added, ``known`` were there already; ``erased`` battles were kept blank."""

    rows: int
    known: int
    recordings: int
    erased: int


def rebuild(store: Store, shards: Iterable[Path]) -> Rebuilt:
    """Adds what the shards hold and the database lacks. Repeating it changes nothing; the order does not matter.

    A tombstone in any shard, or in the database, blanks the battle whatever another shard still holds.

    Raises:
        ShardError: a file that is no shard, a row of a newer program, or a recording that is in no shard.
    """
    shards = sorted(shards)
    rows, erased = _read_rows(shards)
    with store.reading() as session:
        erased |= set(session.scalars(select(ErasedBattle.battle)))
    _blank(rows, erased)
    needed = {
        values[column]
        for (table, _), values in rows.items()
        for column in _AUDIO_COLUMNS.get(table, ())
        if values.get(column)
    }
    recordings = _restore_audio(store, shards, needed)
    missing = [name for name in needed if not store.audio.path(name).exists()]
    if missing:
        raise ShardError(f"{len(missing)} recordings are in none of the shards, {missing[0][:12]} for one.")
    added = known = 0
    with store.writing() as session:
        histories.lock_audio(session)
        for name, table in _BY_NAME.items():
            of_table = [values for (of, _), values in rows.items() if of == name]
            if table is BattleRow:  # a repeat comes after what it repeats
                of_table.sort(key=lambda values: (values["repeat_of"] is not None, values["at"]))
            for values in of_table:
                inserted = _insert(session, table, values)
                added, known = added + inserted, known + (not inserted)
    return Rebuilt(added, known, recordings, len(erased & {key for table, key in rows if table == "battles"}))


def _allowed(session: Session, level: Level) -> set[str]:
    """Battles that may leave: those of people who allow publishing; in a backup all that may be used, simulated too.

    A battle that was erased afterwards stays: blank, so that copies blank it too.
    """
    levels = queries.consents(session)
    erased = set(session.scalars(select(ErasedBattle.battle)))
    allowed, repeats = set(), {}
    chosen = select(BattleRow.id, BattleRow.rater, BattleRow.at, BattleRow.consent, BattleRow.repeat_of)
    if level != "everything":
        chosen = chosen.where(BattleRow.source == "human")
    for battle, rater, at, given, repeat_of in session.execute(chosen):
        repeats[battle] = repeat_of
        least = queries.least_level(given, [each for since, each in levels.get(rater, ()) if since >= at])
        if battle in erased:
            fits = level == "everything" or given == "publish"
        else:
            fits = least != "nothing" if level == "everything" else least == "publish"
        if fits:
            allowed.add(battle)
    return {battle for battle in allowed if repeats[battle] is None or repeats[battle] in allowed}


def _over(session: Session, battles: set[str], now: float, rules: Rules) -> set[str]:
    """Those whose vote stands or can no longer be cast; of repeats, only with what they repeat."""
    ended = {
        battle
        for column in (RevealRow.battle, VoidRow.battle, ErasedBattle.battle)
        for battle in session.scalars(select(column))
    }
    latest = (
        select(BattleRow.id, BattleRow.repeat_of, func.max(TurnRow.at), func.max(Release.at))
        .outerjoin(TurnRow, TurnRow.battle == BattleRow.id)
        .outerjoin(Release, Release.battle == BattleRow.id)
        .group_by(BattleRow.id, BattleRow.repeat_of)
    )
    over, repeats = set(), {}
    for battle, repeat_of, asked_at, released_at in session.execute(latest):
        repeats[battle] = repeat_of
        expired = now > max(asked_at or 0.0, released_at or 0.0) + rules.expiry + rules.undo
        if battle in battles and (battle in ended or expired):
            over.add(battle)
    return {battle for battle in over if repeats[battle] is None or repeats[battle] in over}


def _battle_of(table: type[Base], values: Mapping[str, Any], votes: Mapping[str, str]) -> str | None:
    if table is BattleRow:
        return values["id"]
    return values.get("battle") or votes.get(values.get("vote", ""))


def _values(row: Base) -> dict[str, Any]:
    values = {column.key: getattr(row, column.key) for column in inspect(type(row)).column_attrs}
    return values | dict.fromkeys(_WITHHELD.get(row.__tablename__, ()))


def _key(row: Base) -> str:
    (column,) = inspect(type(row)).primary_key
    return getattr(row, column.key)


def _written(store: Store, entry: Entry) -> dict[str, Any]:
    table, key = entry.key
    written = {"table": table, "key": key, "battle": entry.battle, "row": None, "audio": None}
    if table == AUDIO_KIND:
        return written | {"audio": {"bytes": store.audio.get(key), "path": f"{key}.wav"}}
    return written | {"row": json.dumps(entry.row, allow_nan=False, sort_keys=True)}


def _read_rows(shards: list[Path]) -> tuple[dict[Key, dict[str, Any]], Set[str]]:
    rows: dict[Key, dict[str, Any]] = {}
    for shard in shards:
        try:
            table = pq.read_table(shard, columns=["table", "key", "row"])
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            raise ShardError(f"{shard.name} is not a shard of the log ({error}).") from error
        for each in table.to_pylist():
            if each["table"] == AUDIO_KIND:
                continue
            if each["table"] not in _BY_NAME:
                raise ShardError(f"{shard.name} was written by a newer program: it has a table {each['table']!r}.")
            rows[each["table"], each["key"]] = json.loads(each["row"])
    return rows, {key for table, key in rows if table == "erased_battles"}


def _blank(rows: dict[Key, dict[str, Any]], erased: Set[str]) -> None:
    """Whatever an older shard still says of erased battles is left out."""
    votes = {key: values["battle"] for (table, key), values in rows.items() if table == "votes"}
    for (table, _), values in rows.items():
        battle = values["id"] if table == "battles" else values.get("battle") or votes.get(values.get("vote", ""))
        if battle in erased:
            values.update({name: {} if name == "measures" else None for name in CONTENTS.get(table, ())})


def _restore_audio(store: Store, shards: list[Path], needed: Set[str]) -> int:
    restored = 0
    lacking = {name for name in needed if not store.audio.path(name).exists()}
    for shard in shards:
        if not lacking:
            break
        chosen = pq.read_table(shard, filters=[("table", "=", AUDIO_KIND), ("key", "in", sorted(lacking))])
        for each in chosen.to_pylist():
            data = each["audio"]["bytes"]
            if hashlib.sha256(data).hexdigest() != each["key"]:
                raise ShardError(f"{shard.name} holds a recording that is not what its name says.")
            store.audio.put(data)
            lacking.discard(each["key"])
            restored += 1
    return restored


def _insert(session: Session, table: type[Base], values: Mapping[str, Any]) -> bool:
    unknown = set(values) - {column.key for column in inspect(table).column_attrs}
    if unknown:
        raise ShardError(f"The shards were written by a newer program: {table.__tablename__} has {min(unknown)!r}.")
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    done = session.execute(dialect.insert(table).values(**values).on_conflict_do_nothing())
    return done.rowcount == 1
