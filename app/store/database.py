"""Opening the database: where it may live, how durable it is, and its schema brought up to date."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from app.store import migrating
from app.store.audio_files import AudioFiles
from app.store.mounts import MOUNTS, mount_of
from app.store.turns import Turns

FILE = "arena.sqlite3"
BUSY_SECONDS = 30
CONNECTIONS, WRITERS = 16, 8
"""To a PostgreSQL server, of one process, and how many of them may write at once. More threads wait: a connection that
is opened for one vote costs the server more than the vote."""


class StoreError(RuntimeError):
    """The store cannot be used; the message is one sentence for the host."""


class Store:
    """``writing()`` is one durable transaction, alone; ``reading()`` is one consistent view."""

    def __init__(self, engine: Engine, audio: AudioFiles) -> None:
        self.engine = engine
        self.audio = audio
        self._writer = engine.execution_options(wavalign_writes=True)
        # Threads of one process queue here, in turn; the databases' own waiting is a lottery.
        self._turns = Turns(1 if self.is_sqlite else WRITERS)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Commits at the end, or leaves nothing behind when anything is raised."""
        with self._turns, Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def open_store(home: Path, database: str | None = None, mounts: Path = MOUNTS) -> Store:
    """The store of ``home``: ``home/arena`` unless ``database`` is a ``postgresql://`` or ``sqlite:///`` URL.

    Raises:
        StoreError: when the database cannot be used: a network mount, no server, a newer schema.
    """
    folder = home / "arena"
    url = _url(folder, database)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database)
        _must_be_local(path, mounts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"The database folder {path.parent} cannot be made: {error.strerror}.") from error
    engine = make_engine(url)
    try:
        migrating.upgrade(engine)
    except migrating.NewerSchemaError as error:
        engine.dispose()
        raise StoreError(str(error)) from error
    except (DBAPIError, OSError) as error:
        engine.dispose()
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        shown = url.render_as_string(hide_password=True)
        raise StoreError(f"The database {shown} cannot be used: {cause}") from error
    audio = AudioFiles(folder / "audio")
    return Store(engine, audio)


def make_engine(url: URL | str) -> Engine:
    """SQLite in WAL with full syncing, foreign keys and explicit transactions; PostgreSQL as it comes."""
    url = make_url(url)
    options = {"json_serializer": lambda value: json.dumps(value, allow_nan=False, sort_keys=True)}
    if url.get_backend_name() == "postgresql":
        return create_engine(url, pool_pre_ping=True, pool_size=CONNECTIONS, max_overflow=0, **options)
    engine = create_engine(url, pool_size=16, max_overflow=48, connect_args={"timeout": BUSY_SECONDS}, **options)

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where sqlite3 guesses
        for pragma in (
            f"busy_timeout = {1000 * BUSY_SECONDS}",
            "journal_mode = WAL",
            "synchronous = FULL",  # a commit that returned survives a power cut
            "foreign_keys = ON",
            "secure_delete = ON",  # what a rater erases is overwritten
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("wavalign_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _url(folder: Path, database: str | None) -> URL:
    if not database:
        return URL.create("sqlite", database=str(folder / FILE))
    try:
        url = make_url(database.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        raise StoreError("WAVALIGN_DATABASE is not a database URL; use postgresql://user:password@host/name.") from None
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+pg8000") if url.drivername == "postgresql" else url
    if backend == "sqlite" and url.database and url.database != ":memory:":
        return url
    raise StoreError(f"WAVALIGN_DATABASE must be a postgresql:// URL or a sqlite:/// file, not {backend}.")


def _must_be_local(path: Path, mounts: Path) -> None:
    mount = mount_of(path, mounts)
    if mount is not None and mount.is_network:
        raise StoreError(
            f"The database cannot live in {path.parent}: {mount.point} is a network or bucket mount ({mount.kind}), "
            "where SQLite loses data; set WAVALIGN_HOME to a local disk or WAVALIGN_DATABASE to a PostgreSQL URL."
        )
