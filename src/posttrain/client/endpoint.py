"""An OpenAI-compatible endpoint as a Model: the same call for judge, teacher, critic and simulated user.

    teacher = Endpoint("http://127.0.0.1:8000/v1", "qwen3-8b", store="runs/answers.db", budget=Budget(money=5), price=Price(0.1, 0.4))
    groups = teacher.generate([Request(as_chat("Who wrote Emma?"))])

Calls go out together, retried by kind of error; each is reserved against the budget before it is sent, and its answer is stored by the
content of the call, so results depend neither on timing nor on how often the job was killed. The key travels in one header and is struck
out of every message and every answer; it goes to the address of `url` alone (no redirect is followed), never in clear beyond this
machine. Leaves out token streaming (`stream` gives each answer whole) and log-probabilities.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2 as httpx

from posttrain.client import wire
from posttrain.client.money import Budget, BudgetExceeded, Estimate, Price, worst
from posttrain.client.pace import Pace, pause
from posttrain.client.store import Store
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Event, Request

TRIES = 6
LONGEST_REPLY = 16 * 2**20
"""Bytes of a reply beyond which it is not read on."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Work:
    """One answer to fetch: where it goes, what is sent, its key and its worst case in tokens."""

    row: int
    index: int
    body: dict[str, Any]
    key: str
    most: tuple[int, int]


@dataclass
class Endpoint:
    """See the module docstring.

    url: up to and with ``/v1``. key_variable: environment variable that holds the API key. revision: pinned version of the model, part
    of the store's keys. once: the server honours ``Idempotency-Key``, so a repeated call is not billed twice. on_error: after the last try,
    ``stop`` raises CallFailed; ``void`` gives an empty answer with stop reason ``error`` and counts it. unit: seconds of the first wait.
    """

    url: str
    model: str
    store: Store | str | Path = ":memory:"
    budget: Budget = field(default_factory=Budget)
    price: Price = field(default_factory=Price)
    key_variable: str | None = "OPENAI_API_KEY"
    revision: str | None = None
    concurrency: int = 8
    most: int = 64
    timeout: float = 120.0
    tries: int = TRIES
    once: bool = False
    on_error: Literal["stop", "void"] = "stop"
    extra: Mapping[str, Any] = field(default_factory=dict)
    unit: float = 1.0
    seen: Callable[[int, int], None] | None = None
    """Told (answers there, answers wanted) as they come."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint {self.url!r} is no address; give one such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("endpoint: leave keys out of the address; name the variable that holds the key instead")
        self.url = self.url.rstrip("/")
        if not isinstance(self.store, Store):
            self.store = Store(self.store)
        self.counts: Counter[str] = Counter()
        self.pace_seen: tuple[int, float] = (0, float(self.concurrency))

    # The Model protocol

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request with its n answers, in order. Raises CallFailed, BudgetExceeded; what came before is stored."""
        works = self._works(requests)
        bodies = _blocking(self._fetch(works))
        out = []
        places = iter(bodies)
        for request in requests:
            answers = [self._response(next(places)) for _ in range(request.n)]
            out.append(Group(request.prompt, tuple(answers), facts=request.facts, tools=request.tools))
        return out

    def stream(self, requests: Iterable[Request]) -> Iterator[Event]:
        """One event per answer, whole."""
        listed = list(requests)
        for number, (request, made) in enumerate(zip(listed, self.generate(listed), strict=True)):
            for index, answer in enumerate(made.responses):
                yield Event(request.id or str(number), index, answer.text, stop=answer.stop or "stop")

    def estimate(self, requests: Sequence[Request]) -> Estimate:
        """What `generate` would cost at worst; nothing is sent."""
        works = self._works(requests)
        wanted = {w.key: w for w in works if self._kept(w.key) is None}
        used = [sum(w.most[i] for w in wanted.values()) for i in (0, 1)]
        return Estimate(len(wanted), len(works) - len(wanted), used[0], used[1], self.price.of(used[0], used[1]))

    def costs(self, requests: Sequence[Request]) -> list[list[float]]:
        """What each kept answer to each request cost when it was paid for."""
        assert isinstance(self.store, Store)
        paid = iter([self.store.paid(w.key) for w in self._works(requests)])
        return [[next(paid) for _ in range(r.n)] for r in requests]

    @property
    def by(self) -> str:
        """Who answers, as rows name it."""
        return f"{self.model}@{self.revision}" if self.revision else self.model

    # Inside

    def _response(self, body: Mapping[str, Any] | None) -> Response:
        return Response(stop="error", by=self.by) if body is None else wire.response(body, self.by)

    def _kept(self, key: str) -> dict[str, Any] | None:
        assert isinstance(self.store, Store)
        return self.store.find(key)

    def _works(self, requests: Sequence[Request]) -> list[Work]:
        works = []
        for row, request in enumerate(requests):
            for index in range(request.n):
                body = wire.call(request, index, self.model, self.extra)
                key = wire.key_of(body, url=self.url, revision=self.revision, index=index)
                works.append(Work(row, index, body, key, worst(request)))
        return works

    async def _fetch(self, works: Sequence[Work]) -> list[dict[str, Any] | None]:
        """The bodies of all answers, in order. Equal calls are sent once."""
        found = {w.key: self._kept(w.key) for w in works}
        open_works = {w.key: w for w in works if found[w.key] is None}
        self.counts["known"] += len(found) - len(open_works)
        if open_works:
            pace = Pace(self.concurrency, self.most)
            limits = httpx.Limits(max_connections=self.most, max_keepalive_connections=self.most)
            async with httpx.AsyncClient(timeout=self.timeout, limits=limits, headers=self._headers()) as http:
                await self._all(open_works, found, pace, http)
            self.pace_seen = (pace.peak, pace.limit)
        return [found[w.key] for w in works]

    async def _all(
        self,
        open_works: Mapping[str, Work],
        found: dict[str, dict[str, Any] | None],
        pace: Pace,
        http: httpx.AsyncClient,
    ) -> None:
        """Fill `found`. On the first failure no further call is sent, and those in flight are awaited: they are paid for."""
        failed: list[Exception] = []
        there = len(found) - len(open_works)
        feed = iter(open_works.values())

        async def worker() -> None:
            nonlocal there
            for work in feed:
                if failed:
                    return
                try:
                    found[work.key] = await self._one(work, pace, http)
                except (wire.CallFailed, BudgetExceeded) as error:
                    failed.append(error)
                    return
                there += 1
                if self.seen is not None:
                    self.seen(there, len(found))

        await asyncio.gather(*(worker() for _ in range(min(self.most, len(open_works)))))
        if failed:
            raise failed[0]

    async def _one(self, work: Work, pace: Pace, http: httpx.AsyncClient) -> dict[str, Any] | None:
        """One answer, tried until it comes, is refused, or the tries are used up."""
        assert isinstance(self.store, Store)
        rng = random.Random(work.key)
        for attempt in range(self.tries):
            try:
                async with pace.turn():
                    self.store.reserve(work.key, sum(work.most), self.price.of(*work.most), self.budget, self.once)
                    reply = await self._send(work, http)
            except wire.CallFailed as error:
                self.counts[error.kind] += 1
                self.store.release(work.key, error.kind if error.kind in wire.BILLED and not self.once else None)
                if error.kind == "busy":
                    pace.refused()
                if error.kind != "refused" and attempt + 1 < self.tries:
                    self.counts["retried"] += 1
                    await asyncio.sleep(pause(attempt, error.retry_after, rng, self.unit))
                    continue
                if self.on_error == "stop" or error.status in (401, 403):
                    raise
                self.counts["void"] += 1
                return None
            pace.won()
            self.counts["sent"] += 1
            used = tuple(
                most if told is None else told for told, most in zip((reply.tokens_in, reply.tokens_out), work.most)
            )
            self.store.settle(work.key, reply.body, used[0], used[1], self.price.of(used[0], used[1]))
            return reply.body
        raise AssertionError("the last try returns or raises")

    async def _send(self, work: Work, http: httpx.AsyncClient) -> wire.Reply:
        """One call. Raises CallFailed with the key struck out."""
        try:
            body = json.dumps(work.body).encode()
            told = {"Idempotency-Key": work.key, "Content-Type": "application/json"}
            async with http.stream("POST", f"{self.url}/chat/completions", content=body, headers=told) as got:
                text = await _bounded(got)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise wire.CallFailed("server", f"{self.url}: cannot connect ({type(error).__name__})") from None
        except (httpx.HTTPError, httpx.StreamError, UnicodeError) as error:
            raise wire.CallFailed("timeout", f"{self.url}: no whole reply ({type(error).__name__})") from None
        text = self._struck(text)
        failed = wire.failure(got.status_code, text, got.headers.get("retry-after"))
        if failed is not None:
            raise failed
        return wire.read_reply(text)

    def _secret(self) -> str | None:
        """The key. Raises ValueError, without it, where it is no header or would travel in clear."""
        secret = os.environ.get(self.key_variable, "").strip() if self.key_variable else ""
        if not secret:
            return None
        if not (secret.isascii() and secret.isprintable()):
            raise ValueError(f"{self.key_variable}: holds characters that no key has; set it anew")
        parts = urlsplit(self.url)
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise ValueError(
                f"{self.url}: the key in {self.key_variable} would travel in clear; use https, or key_variable: null where none is needed"
            )
        return secret

    def _headers(self) -> dict[str, str]:
        secret = self._secret()
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    def _struck(self, text: str) -> str:
        secret = self._secret()
        return text.replace(secret, "[key]") if secret else text


async def _bounded(got: httpx.Response) -> str:
    """The text of a reply, read no further than a reply can be long. Raises CallFailed."""
    held = bytearray()
    async for piece in got.aiter_bytes():
        held += piece
        if len(held) > LONGEST_REPLY:
            raise wire.CallFailed("broken", f"the reply is longer than {LONGEST_REPLY >> 20} MiB")
    return held.decode("utf-8", "replace")


def _blocking(work: Any) -> Any:
    """Run a coroutine to its end, also where an event loop is running already (notebooks)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
