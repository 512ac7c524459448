"""A reward behind HTTP: `RewardEndpoint` posts prompts with their answers and reads one number each.

    POST url   {"rows": [{"messages": [{"role": "user", "content": "..."}], "answer": "..."}, ...]}
    200        {"scores": [0.3, null, ...]}                     null: cannot be scored

It is a Reward: audits, best-of-n and online runs take it as any other. The key travels in one header, to this address alone (no redirect
is followed) and never in clear beyond this machine. Busy and failing servers are asked again with growing pauses. Leaves out streaming
and judges that compare (`rewards.judge` over an `Endpoint` does that).
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx

from posttrain.client import wire
from posttrain.client.endpoint import LONGEST_REPLY, LOOPBACK
from posttrain.client.pace import pause
from posttrain.core.group import Group, Score

AT_ONCE = 64
"""Answers in one call."""
AGAIN = ("busy", "server", "timeout")


@dataclass
class RewardEndpoint:
    """See the module docstring.

    url: the whole address. key_variable: environment variable with the key, None sends none. timeout: seconds per call. tries: calls before
    giving up. unit: seconds of the first pause. asked: answers sent so far.
    """

    url: str
    key_variable: str | None = None
    timeout: float = 60.0
    tries: int = 5
    unit: float = 1.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"reward {self.url!r} is no address; give one such as http://127.0.0.1:9000/score")
        if parts.username or parts.password or parts.query:
            raise ValueError("reward: leave keys out of the address; name the variable that holds the key instead")
        if self.key_variable and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(f"reward {self.url}: a key is not sent in clear beyond this machine; use https")
        self.asked = 0

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        """One Score per response of each group, in order. Raises CallFailed after the last try, or for a reply of another form."""
        rows = [{"messages": wire.messages(g.prompt), "answer": r.text} for g in groups for r in g.responses]
        values: list[float | None] = []
        with httpx.Client(timeout=self.timeout, follow_redirects=False, trust_env=False) as http:
            for at in range(0, len(rows), AT_ONCE):
                values += self._piece(http, rows[at : at + AT_ONCE])
        self.asked += len(rows)
        told = iter(values)
        return [[_score(next(told), self.url) for _ in g.responses] for g in groups]

    def _piece(self, http: httpx.Client, rows: list[dict[str, Any]]) -> list[float | None]:
        rng = random.Random(0)
        for attempt in range(self.tries):
            try:
                return self._once(http, rows)
            except wire.CallFailed as error:
                if error.kind not in AGAIN or attempt == self.tries - 1:
                    raise
                time.sleep(pause(attempt, error.retry_after, rng, self.unit))
        raise AssertionError("the last try returns or raises")

    def _once(self, http: httpx.Client, rows: list[dict[str, Any]]) -> list[float | None]:
        headers = {}
        if self.key_variable:
            key = os.environ.get(self.key_variable)
            if not key:
                raise ValueError(f"reward {self.url}: set {self.key_variable}, or key_variable to none")
            headers["Authorization"] = f"Bearer {key}"
        try:
            with http.stream("POST", self.url, json={"rows": rows}, headers=headers) as got:
                text = _bounded(got)
        except httpx.HTTPError as error:
            raise wire.CallFailed("timeout", f"reward {self.url}: no reply ({type(error).__name__})") from None
        if 300 <= got.status_code < 400:
            raise wire.CallFailed("refused", f"reward {self.url}: sends elsewhere; redirects are not followed")
        failed = wire.failure(got.status_code, text, got.headers.get("retry-after"))
        if failed is not None:
            raise failed
        return _read(text, len(rows), self.url)


def _bounded(got: httpx.Response) -> str:
    parts, size = [], 0
    for part in got.iter_bytes():
        size += len(part)
        if size > LONGEST_REPLY:
            raise wire.CallFailed("broken", f"the reply is longer than {LONGEST_REPLY:,} bytes")
        parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


def _read(text: str, wanted: int, url: str) -> list[float | None]:
    try:
        values = json.loads(text)["scores"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise wire.CallFailed("broken", f'reward {url}: the reply is not {{"scores": [...]}}') from None
    good = isinstance(values, list) and all(
        v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values
    )
    if not good or len(values) != wanted:
        raise wire.CallFailed("broken", f"reward {url}: {wanted} numbers or nulls are wanted in `scores`")
    return [None if v is None else float(v) for v in values]


def _score(value: float | None, url: str) -> Score:
    if value is None or not math.isfinite(value):
        return Score(None, why=f"{url} gave no value")
    return Score(value, {"endpoint": value}, f"{url}: {value:.3g}")
