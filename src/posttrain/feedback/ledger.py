"""A ledger: one SQLite file in WAL mode, or a PostgreSQL database by URL, brought to the newest schema when it is opened.

Writers take turns (`BEGIN IMMEDIATE`, an advisory lock in PostgreSQL): a transaction reads counters and moves them, and the history is
one chain of hashes. What a transaction has committed is on the disk (`synchronous = FULL`), so a killed server loses nothing that it
acknowledged. Leaves out: several ledgers in one database, and replication, which belongs to PostgreSQL.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

from posttrain.feedback.migrate import take_turn, upgrade


class Ledger:
    """An open ledger. `read` and `write` give connections inside a transaction."""

    def __init__(self, url: str | Path) -> None:
        self.url = as_url(url)
        self.engine = connecting(self.url)
        self._writing = threading.Lock()
        upgrade(self.engine)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; nothing can be changed through it by mistake, as it is rolled back."""
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the writers' turn; committed at the end, undone by an exception."""
        with (
            self._writing,
            self.engine.connect().execution_options(posttrain_write=True) as connection,
            connection.begin(),
        ):
            take_turn(connection)
            yield connection

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_url(place: str | Path) -> str:
    """A database URL: `postgresql://...` as given (psycopg 3 drives it), anything else is the path of an SQLite file."""
    place = str(place)
    if place.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + place.split("://", 1)[1]
    if "://" in place:
        if place.startswith(("sqlite:", "postgresql+")):
            return place
        raise ValueError(f"{place.split('://', 1)[0]}: no such kind of database; give a file, or a postgresql:// URL")
    path = Path(place)
    if path.is_dir():
        raise ValueError(f"{place} is a directory; name a file such as {path / 'prefs.db'}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{place}: the directory {path.parent} does not exist")
    if path.is_file() and path.stat().st_size:
        with open(path, "rb") as file:
            if file.read(16) != b"SQLite format 3\x00":
                raise ValueError(f"{place} is no ledger (not an SQLite file); rows are read with --data")
    return f"sqlite:///{path.absolute()}"


def connecting(url: str) -> Engine:
    """An engine with the settings that a ledger needs. url: as `as_url` gives it."""
    if not url.startswith("sqlite"):
        try:
            return create_engine(url, pool_size=8, max_overflow=24, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise ValueError(f"PostgreSQL needs the driver: pip install 'posttrain[postgres]' ({error})") from None
    made = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False}, pool_size=16, max_overflow=32)

    @event.listens_for(made, "connect")
    def _settle(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "cache_size=-32000",
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(made, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("posttrain_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return made
