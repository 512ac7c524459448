"""Schema versions: alembic migrations that ship with the package. A ledger of an older version is brought up when it is opened.

A ledger that is newer than this installation is refused, never guessed at.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

HEAD = "0002"
HERE = Path(__file__).parent / "migrations"
_TURN = 0x706F7374  # the advisory lock of writers, any constant


def take_turn(connection: Connection) -> None:
    """Wait until no other transaction writes, and keep the turn until the end of this one. SQLite's `BEGIN IMMEDIATE` has it already."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _TURN})


def version(engine: Engine) -> str | None:
    """The schema version of a ledger; None for an empty database."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine, to: str = HEAD) -> None:
    """Bring the schema to a version, the newest as a rule. Raises ValueError for a database that holds other tables, or a newer ledger."""
    here = version(engine)
    if here == to:
        return
    others = set(inspect(engine).get_table_names())
    if here is None and others:
        raise ValueError(
            f"{engine.url.database}: this database holds other tables ({', '.join(sorted(others)[:3])}); use an empty one"
        )
    if here is not None and here > HEAD:
        raise ValueError(
            f"{engine.url.database}: written by a newer version ({here}, this one knows {HEAD}); upgrade posttrain"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    with engine.connect().execution_options(posttrain_write=True) as connection, connection.begin():
        take_turn(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, to)
