"""Texts and turns, stored once under the SHA-256 of their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from posttrain.feedback.ids import digest
from posttrain.feedback.tables import body


def packed(value: Any) -> tuple[str, str]:
    """(hash, JSON) of a value. ASCII escapes keep NUL and lone surrogates, which a database would refuse."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return digest(text), text


def store(connection: Connection, value: Any) -> str:
    """The value's hash, after it is there."""
    return store_all(connection, [value])[0]


def store_all(connection: Connection, values: Iterable[Any]) -> list[str]:
    """Hashes of many values, stored where they are new."""
    rows = [packed(v) for v in values]
    dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
    fresh = [{"hash": h, "json": j} for h, j in dict(rows).items()]
    for at in range(0, len(fresh), 500):
        connection.execute(dialect.insert(body).on_conflict_do_nothing(), fresh[at : at + 500])
    return [h for h, _ in rows]


def fetch(connection: Connection, hash: str) -> Any:
    return json.loads(connection.execute(select(body.c.json).where(body.c.hash == hash)).scalar_one())


def fetch_all(connection: Connection, hashes: Sequence[str]) -> dict[str, Any]:
    """Values by hash."""
    found: dict[str, Any] = {}
    wanted = list(dict.fromkeys(hashes))
    for at in range(0, len(wanted), 500):
        some = select(body.c.hash, body.c.json).where(body.c.hash.in_(wanted[at : at + 500]))
        found.update((r.hash, json.loads(r.json)) for r in connection.execute(some))
    return found
