"""A private PostgreSQL server for the tests: its own directory, a Unix socket in it, no port, gone afterwards.

`POSTTRAIN_POSTGRES` may name a server that is there already (``postgresql://user@/postgres?host=/run/postgresql``), or say `required`:
then a server that cannot be had is a failure, not a skip.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine

from posttrain.feedback.ledger import Ledger, as_url

GIVEN = os.environ.get("POSTTRAIN_POSTGRES", "")
SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "100", "shared_buffers": "32MB"}
_number = count()


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are: Debian keeps them off the path."""
    found = shutil.which("initdb")
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name) if p.parent.name.isdigit() else 0
    )
    return (
        Path(found).resolve().parent if found else next((p for p in reversed(places) if (p / "initdb").is_file()), None)
    )


class Server:
    """Databases on a server; each test gets a fresh one, copied from one that holds an empty ledger."""

    def __init__(self, url: str) -> None:
        """url: with `{}` where the name of the database goes."""
        self.url = url
        self.empty = self._create("template1")
        Ledger(self.empty).close()

    def database(self) -> str:
        """URL of a new, empty ledger."""
        return self._create(self.empty.rsplit("/", 1)[1].partition("?")[0])

    def bare(self) -> str:
        """URL of a new database without any table."""
        return self._create("template1")

    def _create(self, template: str) -> str:
        name = f"posttrain_{os.getpid()}_{next(_number)}"
        engine = create_engine(as_url(self.url.format("postgres")), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        engine.dispose()
        return self.url.format(name)


@contextmanager
def private(bin: Path) -> Iterator[Server]:
    """A server of our own, as `nobody` where the tests run as root (PostgreSQL refuses to)."""
    place = Path(tempfile.mkdtemp(prefix="posttrain-pg-"))
    as_user = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
    if as_user:
        shutil.chown(place, **as_user)
    common = {"stdin": subprocess.DEVNULL, "cwd": "/", **as_user}
    made = subprocess.run(
        [bin / "initdb", "-D", place / "data", "-U", "tests", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"],
        capture_output=True, text=True, check=False, **common,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    options = [f"-c{name}={value}" for name, value in {**SETTINGS, "unix_socket_directories": str(place)}.items()]
    with open(place / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen([bin / "postgres", "-D", place / "data", *options], stdout=log, stderr=log, **common)
    try:
        until = time.monotonic() + 120
        while not (place / ".s.PGSQL.5432").exists() or "ready to accept" not in (place / "log").read_text("utf-8"):
            assert process.poll() is None and time.monotonic() < until, (place / "log").read_text("utf-8")
            time.sleep(0.1)
        yield Server(f"postgresql://tests@/{{}}?host={quote(str(place), safe='')}")
    finally:
        process.send_signal(signal.SIGINT)  # at once, without waiting for connections that tests left open
        process.wait(60)
        shutil.rmtree(place)


@cache
def why_not() -> str | None:
    """Why no server can be had, or None."""
    return None if GIVEN not in ("", "required") or binaries() else "no PostgreSQL here (apt-get install postgresql)"


@contextmanager
def server() -> Iterator[Server]:
    """The server of the tests. Skips, saying so, where none can be had; fails where one was required."""
    if GIVEN not in ("", "required"):
        yield Server(GIVEN.replace("/postgres", "/{}", 1))
        return
    bin = binaries()
    if bin is None:
        (pytest.fail if GIVEN == "required" else pytest.skip)(str(why_not()))
    with private(bin) as found:
        yield found
