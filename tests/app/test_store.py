"""The database: where it may live, what it survives, how it grows up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from app.store import Store, StoreError, migrating, open_store
from app.store.audio_files import AudioFiles, MissingAudioError
from app.store.database import make_engine
from app.store.mounts import mount_of
from app.store.schema import TABLES, Base, Rater, VoteRow, storable
from app.store.turns import Turns
from tests.app.arena import make_arena, spoken

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
bucket /data fuse.hf-mount rw 0 0
/dev/vdb /data/local\\040disk xfs rw 0 0
disk /usb fuseblk rw 0 0
share /mnt/c 9p rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    path = tmp_path / "mounts"
    path.write_text(MOUNTS, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("path", "network"),
    [
        ("/srv/app", False),
        ("/home/someone/.cache", True),
        ("/data/home", True),
        ("/data/local disk/home", False),
        ("/usb/home", False),
        ("/mnt/c/home", True),
        ("/homeward", False),
    ],
)
def test_network_and_bucket_mounts_are_known(path: str, network: bool, mounts: Path) -> None:
    assert mount_of(Path(path), mounts).is_network is network


def test_database_on_a_network_mount_is_refused_in_one_sentence(mounts: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot live in /data/home/arena: /data is a network or bucket mount"):
        open_store(Path("/data/home"), mounts=mounts)
    assert not Path("/data/home").exists()


def test_root_of_a_container_may_be_9p(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text("none / 9p rw 0 0\n", encoding="utf-8")
    assert not mount_of(Path("/srv"), tmp_path / "mounts").is_network
    assert mount_of(Path("/srv"), tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://host/name", "must be a postgresql"),
        ("sqlite://", "must be a postgresql"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "cannot be used"),
    ],
)
def test_database_that_cannot_be_used_is_told(url: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=says) as caught:
        open_store(tmp_path, url)
    assert "secret" not in str(caught.value)


def test_sqlite_is_durable_and_strict(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store.engine.connect() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "secure_delete")
        }
    assert values == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
        "secure_delete": 1,
    }


def test_migrations_make_exactly_the_schema(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_upgrade_from_the_first_migration_keeps_every_row(tmp_path: Path, database: str | None) -> None:
    url = database or f"sqlite:///{tmp_path}/arena/arena.sqlite3"
    (tmp_path / "arena").mkdir()
    engine = make_engine(url)
    migrating.upgrade(engine, "0001")
    old = Store(engine, AudioFiles(tmp_path / "arena" / "audio"))
    arena = make_arena(old)
    arena.join()
    arena.revealed(3, asked=spoken(), reason="kept")
    arena.voting.undo(arena.voted(1).battle, "b-1")
    before = contents(old)
    assert len(before["votes"]) == 2
    assert len(before["retractions"]) == 1
    old.close()
    new = open_store(tmp_path, database)
    assert contents(new) == before
    with pytest.raises(DBAPIError, match="append-only"), new.writing() as session:
        session.execute(text("DELETE FROM votes"))
    make_arena(new).voting.consent("b-2", "publish")
    new.close()


def contents(store: Store) -> dict[str, list[dict]]:
    with store.reading() as session:
        return {
            table.__tablename__: sorted(
                (
                    {column.key: getattr(row, column.key) for column in inspect(table).column_attrs}
                    for row in session.query(table)
                ),
                key=str,
            )
            for table in TABLES
        }


def test_newer_database_is_refused(store: Store, tmp_path: Path, database: str | None) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version"):
        open_store(tmp_path, database)


def test_several_programs_may_start_at_once(tmp_path: Path, database: str | None) -> None:
    opened: list[Store] = []
    threads = [threading.Thread(target=lambda: opened.append(open_store(tmp_path, database))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for each in opened:
        each.close()


def test_writers_go_in_the_order_in_which_they_came() -> None:
    turns, order = Turns(1), []
    with turns:
        threads = []
        for number in range(6):
            threads.append(threading.Thread(target=lambda number=number: _write(turns, order, number)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_a_writer_that_fails_gives_its_place_back() -> None:
    turns = Turns(2)
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), turns:
            raise ZeroDivisionError
    with turns, turns:
        assert turns._free == 0


def _write(turns: Turns, order: list[int], number: int) -> None:
    with turns:
        order.append(number)


def test_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.writing() as session:
            session.add(Rater(id="r", at=1.0, source="human"))
            session.flush()
            raise KeyError("on the way")

    with pytest.raises(KeyError):
        fail()
    with store.reading() as session:
        assert session.get(Rater, "r") is None


def test_database_itself_refuses_what_cannot_be(store: Store) -> None:
    arena = make_arena(store)
    arena.join()
    battle = arena.heard()
    vote = {"battle": battle, "rater": "b-1", "at": 1.0, "ballot": 1, "outcome": "left", "strength": 2}
    for wrong in ({"strength": -2}, {"strength": 4}, {"outcome": "neither"}, {"helpfulness": 2}, {"battle": "none"}):
        with pytest.raises(DBAPIError), store.writing() as session:
            session.add(VoteRow(id="v", **{**vote, **wrong}))
    with store.writing() as session:
        session.add(VoteRow(id="v", **vote))
    with pytest.raises(DBAPIError), store.writing() as session:
        session.add(VoteRow(id="w", **vote))


@pytest.mark.parametrize("given", ["plain", "né\u4e2d🎧", "a\x00b", "\ud800", "\udc00\ud800", ""])
def test_text_from_outside_is_made_storable(given: str) -> None:
    kept = storable(given)
    assert kept.encode("utf-8").decode() == kept
    assert "\x00" not in kept
    assert storable(kept) == kept


def test_audio_is_named_by_its_content_and_checked(tmp_path: Path) -> None:
    files = AudioFiles(tmp_path / "audio")
    name = files.put(b"sound")
    assert files.put(b"sound") == name == files.keep(b"sound")
    assert files.get(name) == b"sound"
    assert list(files.names()) == [name]
    files.path(name).write_bytes(b"noise")
    with pytest.raises(MissingAudioError, match="was changed"):
        files.get(name)
    assert files.drop(name)
    assert not files.drop(name)
    with pytest.raises(MissingAudioError, match="is not in"):
        files.get(name)
    for evil in ("../../etc/passwd", "", "A" * 64, name + "/x"):
        with pytest.raises(ValueError, match="Not the name"):
            files.path(evil)


def test_half_written_audio_is_swept(tmp_path: Path) -> None:
    files = AudioFiles(tmp_path / "audio")
    kept = files.put(b"whole")
    draft = files.path(kept).with_name(".abc.part")
    draft.write_bytes(b"ha")
    assert files.sweep_drafts(older_than=draft.stat().st_mtime - 1) == 0
    assert files.sweep_drafts(older_than=draft.stat().st_mtime + 1) == 1
    assert list(files.names()) == [kept]
