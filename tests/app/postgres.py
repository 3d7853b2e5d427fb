"""A PostgreSQL server of the tests' own: a loopback port, a folder of its own, as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

_PATIENCE = 60.0


class NoServerError(RuntimeError):
    """Why there is none here."""


def binaries() -> Path:
    """The folder of ``initdb`` and ``postgres``, newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda each: float(each.parts[-3]))
    if found:
        return found[-1].parent
    if command := shutil.which("initdb"):
        return Path(command).resolve().parent
    raise NoServerError("no PostgreSQL binaries here (Debian: apt-get install postgresql)")


@contextmanager
def server() -> Iterator[str]:
    """Yields the URL of a running server, up to the database's name.

    Raises:
        NoServerError: without binaries, or as root without a user to run it as.
    """
    tools = binaries()
    folder = Path(tempfile.mkdtemp(prefix="wavalign-postgres-"))
    runs_as: dict[str, object] = {"cwd": folder}
    if os.geteuid() == 0:
        user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
        if user is None:
            raise NoServerError("PostgreSQL does not run as root, and there is no other user")
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        runs_as |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    made = subprocess.run(
        [tools / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        **quiet,
        **runs_as,
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise NoServerError(f"initdb failed: {made.stderr.decode(errors='replace').strip()}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", "", "-F", "-c", "max_connections=200"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([tools / "postgres", "-D", data, *options], stdout=log, stderr=log, **runs_as)
    try:
        url = f"postgresql+pg8000://tests@127.0.0.1:{port}/"
        _wait(url, process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def make_database(url: str, name: str) -> str:
    """An empty database; returns its URL."""
    engine = create_engine(url + "postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return url + name


def _wait(url: str, process: subprocess.Popen) -> None:
    engine = create_engine(url + "postgres")
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise NoServerError("the PostgreSQL server ended at once")
        try:
            engine.connect().close()
            engine.dispose()
            return
        except Exception:
            time.sleep(0.05)
    raise NoServerError(f"the PostgreSQL server did not answer within {_PATIENCE:.0f} s")


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
