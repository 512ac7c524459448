"""The databases of the tests: everything that touches a ledger runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.feedback import postgres as pg

Database = Callable[[], str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[pg.Server]:
    with pg.server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Gives the place of a new, empty ledger at every call."""
    if request.param == "postgresql":
        server: pg.Server = request.getfixturevalue("postgres")
        return server.database
    number = count()
    return lambda: str(tmp_path / f"prefs{next(number)}.db")
