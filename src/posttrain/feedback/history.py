"""The history: every act on a ledger as one event, chained by hashes, so that a change after the fact is found.

``hash_n = sha256(hash_{n-1} + canonical JSON of the event)``. An event of a judgment carries the digest of that judgment's row, so the
chain covers the judgments, too. It proves that nothing was altered in the middle; who cuts the end off must also be shown an old copy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from posttrain.feedback.ids import digest
from posttrain.feedback.tables import adjudication, event, judgment

START = "0" * 64


def plain(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def row_digest(row: Mapping[Any, Any]) -> str:
    """SHA-256 of a row of the ledger."""
    return digest(plain(dict(row)))


def note(connection: Connection, what: str, who: str | None, body: Mapping[str, Any], now: float | None = None) -> int:
    """Add an event and return its number. Call inside the transaction of the act itself."""
    last = connection.execute(select(event.c.n, event.c.hash).order_by(event.c.n.desc()).limit(1)).first()
    n, before = (last.n + 1, last.hash) if last else (1, START)
    row = {
        "n": n,
        "at": round(time.time() if now is None else now, 3),
        "what": what,
        "who": who,
        "body": plain(dict(body)),
    }
    connection.execute(insert(event).values(**row, hash=digest(before + plain(row))))
    return n


@dataclass(frozen=True)
class Verified:
    """events, judgments: how many were checked. faults: one line each; empty for a sound ledger."""

    events: int
    judgments: int
    faults: tuple[str, ...]


def verify(connection: Connection) -> Verified:
    """Check the chain, and every judgment and adjudication against the event that recorded it."""
    faults: list[str] = []
    before, n, told = START, 0, dict[str, str]()
    for row in connection.execute(select(event).order_by(event.c.n)):
        n += 1
        body = {k: v for k, v in row._mapping.items() if k != "hash"}
        if row.n != n:
            faults.append(f"event {n} is missing")
            n = row.n
        if digest(before + plain(body)) != row.hash:
            faults.append(f"event {row.n} ({row.what}) was altered")
        before = row.hash
        said = json.loads(row.body)
        if "row" in said:
            told[said["id"]] = said["row"]
    checked = _rows(connection, judgment, told, faults) + _rows(connection, adjudication, told, faults)
    faults += [f"row {missing} was removed" for missing in told]
    return Verified(n, checked, tuple(faults))


def _rows(connection: Connection, table: Table, told: dict[str, str], faults: list[str]) -> int:
    count = 0
    for row in connection.execute(select(table)):
        count += 1
        recorded = told.pop(row.id, None)
        if recorded is None:
            faults.append(f"{table.name} {row.id} has no event")
        elif recorded != row_digest(dict(row._mapping)):
            faults.append(f"{table.name} {row.id} was altered")
    return count
