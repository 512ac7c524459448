"""Answers kept by content, and the account of what they cost: one SQLite file beside the job.

An answer is committed the moment it arrives, so a killed job repeats no paid call. A reservation that no answer settled is money that may
have been spent: it stays in the account as lost, unless the server is known to bill an idempotency key once. Errors are never kept as
answers. WAL mode: a killed process loses nothing that was committed. Leaves out sharing one store between machines.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain.client.money import Budget, BudgetExceeded

TABLES = """
CREATE TABLE IF NOT EXISTS answer (key TEXT PRIMARY KEY, body TEXT NOT NULL, tokens_in INTEGER NOT NULL, tokens_out INTEGER NOT NULL,
    money REAL NOT NULL, made TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS reserved (key TEXT PRIMARY KEY, tokens INTEGER NOT NULL, money REAL NOT NULL);
CREATE TABLE IF NOT EXISTS lost (key TEXT NOT NULL, tokens INTEGER NOT NULL, money REAL NOT NULL, why TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """calls: answers paid for. tokens_in, tokens_out, money: as reported. lost: worst-case money of calls without a known answer."""

    calls: int
    tokens_in: int
    tokens_out: int
    money: float
    lost: float


class Store:
    """An open store. path: the file, or ``:memory:`` for none."""

    def __init__(self, path: str | Path = ":memory:") -> None:
        self.path = str(path)
        if self.path != ":memory:":
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # prompts and answers are their owner's alone
        self._lock = threading.Lock()
        self._db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=60)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(TABLES)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path}: not a store of answers ({error}); name another file") from None
        self._held = self._sums()

    def _sums(self) -> list[float]:
        """Tokens and money of everything: paid, reserved and lost."""
        total = [0.0, 0.0]
        for tokens, table in (("tokens_in + tokens_out", "answer"), ("tokens", "reserved"), ("tokens", "lost")):
            row = self._db.execute(
                f"SELECT COALESCE(SUM({tokens}), 0), COALESCE(SUM(money), 0) FROM {table}"
            ).fetchone()
            total = [total[0] + row[0], total[1] + row[1]]
        return total

    def find(self, key: str) -> dict[str, Any] | None:
        """The answer kept under a key, or None."""
        with self._lock:
            row = self._db.execute("SELECT body FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def paid(self, key: str) -> float:
        """What the answer kept under a key cost; 0 where there is none."""
        with self._lock:
            row = self._db.execute("SELECT money FROM answer WHERE key = ?", (key,)).fetchone()
        return 0.0 if row is None else float(row[0])

    def reserve(self, key: str, tokens: int, money: float, budget: Budget, once: bool = False) -> None:
        """Set a call's worst case aside before it is sent. once: the server bills an idempotency key once, so an earlier unsettled
        reservation of this key is replaced; otherwise it is counted as lost. Raises BudgetExceeded."""
        with self._lock:
            old = self._db.execute("SELECT tokens, money FROM reserved WHERE key = ?", (key,)).fetchone()
            free = (old[0], old[1]) if old is not None and once else (0, 0.0)
            after = (self._held[0] - free[0] + tokens, self._held[1] - free[1] + money)
            why = budget.refuses(int(after[0]), after[1])
            if why is not None:
                raise BudgetExceeded(f"{why}; what was paid for is kept in {self.path}: raise the budget to go on")
            self._db.execute("BEGIN IMMEDIATE")
            if old is not None and not once:
                self._db.execute("INSERT INTO lost VALUES (?, ?, ?, 'killed')", (key, *old))
            self._db.execute("INSERT OR REPLACE INTO reserved VALUES (?, ?, ?)", (key, tokens, money))
            self._db.execute("COMMIT")
            self._held = list(after)

    def settle(self, key: str, body: Mapping[str, Any], tokens_in: int, tokens_out: int, money: float) -> None:
        """Keep an answer at its real cost and give the reservation back."""
        text = json.dumps(body, ensure_ascii=False)
        with self._lock:
            self._free(key, None)
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT OR IGNORE INTO answer (key, body, tokens_in, tokens_out, money) VALUES (?, ?, ?, ?, ?)",
                (key, text, tokens_in, tokens_out, money),
            )
            self._db.execute("DELETE FROM reserved WHERE key = ?", (key,))
            self._db.execute("COMMIT")
            self._held = [self._held[0] + tokens_in + tokens_out, self._held[1] + money]

    def release(self, key: str, lost: str | None = None) -> None:
        """The call brought no answer. lost: why it may be billed all the same (a timeout); None where it surely is not."""
        with self._lock:
            self._free(key, lost)
            self._db.execute("DELETE FROM reserved WHERE key = ?", (key,))

    def _free(self, key: str, lost: str | None) -> None:
        old = self._db.execute("SELECT tokens, money FROM reserved WHERE key = ?", (key,)).fetchone()
        if old is None:
            return
        if lost is not None:
            self._db.execute("INSERT INTO lost VALUES (?, ?, ?, ?)", (key, *old, lost))
        else:
            self._held = [self._held[0] - old[0], self._held[1] - old[1]]

    @property
    def held(self) -> tuple[int, float]:
        """Tokens and money that the budget is held against: paid, in flight and lost."""
        return int(self._held[0]), self._held[1]

    @property
    def spent(self) -> Spent:
        """The account."""
        with self._lock:
            paid = self._db.execute(
                "SELECT COUNT(*), COALESCE(SUM(tokens_in), 0), COALESCE(SUM(tokens_out), 0), COALESCE(SUM(money), 0) FROM answer"
            ).fetchone()
            lost = self._db.execute(
                "SELECT COALESCE(SUM(money), 0) FROM (SELECT money FROM lost UNION ALL SELECT money FROM reserved)"
            ).fetchone()
        return Spent(paid[0], paid[1], paid[2], paid[3], lost[0])

    def close(self) -> None:
        self._db.close()
