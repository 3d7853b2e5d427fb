"""Events cannot be deleted, nor changed except where erasing blanks contents: the database itself says no."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

#: Columns that erasing a rater blanks, as of this schema.
_CONTENTS = {
    "battles": {"address"},
    "turns": {"text", "typed", "heard", "audio"},
    "replies": {"text", "tokens", "audio", "presented", "measures"},
    "votes": {"reason"},
    "vote_details": {"reason"},
}
_TABLES = ["raters", "consents", "battles", "turns", "replies", "releases", "deliveries", "playbacks", "votes"]
_TABLES += ["vote_details", "retractions", "reveals", "voids", "flags", "erasures", "erased_battles"]


def upgrade() -> None:
    connection = op.get_bind()
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        op.execute(
            "CREATE FUNCTION wavalign_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'events are append-only: %', TG_TABLE_NAME; END $$"
        )
    columns = {table: [each["name"] for each in sa.inspect(connection).get_columns(table)] for table in _TABLES}
    for table in _TABLES:
        kept = ", ".join(f'"{name}"' for name in columns[table] if name not in _CONTENTS.get(table, ()))
        for what, when in (("deleted", "DELETE"), ("changed", f"UPDATE OF {kept}")):
            name = f"{table}_not_{what}"
            if postgres:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {when} ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION wavalign_append_only()"
                )
            else:
                op.execute(
                    f"CREATE TRIGGER {name} BEFORE {when} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, 'events are append-only: {table}'); END"
                )
