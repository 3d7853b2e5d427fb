"""Brings a database to the schema of this program, from whatever earlier one."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

_SCRIPTS = Path(__file__).with_name("migrations")
_ADVISORY_LOCK = 0x7761_7661  # any constant: replicas that start together migrate one after the other


class NewerSchemaError(RuntimeError):
    """The database was made by a newer program; the message is one sentence."""


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """One transaction: all of the steps or none.

    Raises:
        NewerSchemaError: the database has a revision that this program does not know.
    """
    config = configuration()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.execution_options(wavalign_writes=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise NewerSchemaError(
                f"The database was written by a newer version of this program (schema {current}); update the program."
            )
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
