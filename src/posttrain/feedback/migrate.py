"""Schema versions: alembic migrations that ship with the package. A ledger of an older version is brought up when it is opened.

A ledger that is newer than this installation is refused, never guessed at.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text

HEAD = "0001"
HERE = Path(__file__).parent / "migrations"


def version(engine: Engine) -> str | None:
    """The schema version of a ledger; None for an empty database."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def upgrade(engine: Engine) -> None:
    """Bring the schema to `HEAD`. Raises ValueError for a database that holds other tables, or a newer ledger."""
    here = version(engine)
    if here == HEAD:
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
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
