"""The HTTP side: routes, keys, limits, streams, metrics. Everything that decodes lives in `engine`, everything that reads in `ask`.

    GET /healthz /metrics /openapi.json /v1/models    POST /v1/chat/completions /v1/completions

Loopback by default; with keys, every route under /v1 asks for one. A text can never cause an error, only structure can (400), size (413)
or a missing key (401). 503 is said only while shutting down. Waiting requests queue: nobody is turned away.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from posttrain.core.chat import Chat
from posttrain.core.protocols import Event, Steer
from posttrain.core.protocols import Request as Prompt
from posttrain.serve.ask import Ask, Misuse, body_of, read_ask
from posttrain.serve.engine import FILTERED, Engine
from posttrain.serve.fit import fit
from posttrain.serve.openapi import document
from posttrain.serve.replies import Reply, error
from posttrain.serve.stream import STALL, Asked, Stream, gone
from posttrain.serve.wishes import Wishes

BODY = 4 << 20
DROPPED = 16
"""Times the limit that an overlong body is still taken, so that its sender reads the 413."""


@dataclass(frozen=True)
class Key:
    """Who may ask. guard: name of the guard that their requests get. admin: may loosen the server's guard."""

    name: str
    guard: str | None = None
    admin: bool = False


class Front(Protocol):
    """What the server asks of a model besides answers."""

    name: str
    context: int

    def count(self, chat: Chat) -> int: ...

    def token_text(self, token: int) -> str: ...

    def guard(self, options: Mapping[str, Any], key: Key) -> Steer | None: ...

    def blocked(self, chat: Chat) -> str | None: ...

    def checked(self, chat: Chat, text: str) -> str: ...


@dataclass
class Server:
    """State of one server. keys: SHA-256 of a key to who it is; empty lets everybody in. aloof: `checked` must read whole answers, so
    streams are held back."""

    engine: Engine
    front: Front
    keys: Mapping[str, Key] = field(default_factory=dict)
    aloof: bool = False
    most: int = 1024
    body: int = BODY
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    stopping: bool = False
    started: float = field(default_factory=time.time)

    def app(self) -> Starlette:
        """The ASGI application."""
        self._room = asyncio.Semaphore(self.most)
        return Starlette(
            routes=[
                Route("/", self.root),
                Route("/healthz", self.health),
                Route("/metrics", self.metrics),
                Route("/openapi.json", self.openapi),
                Route("/v1", self.root),
                Route("/v1/", self.root),
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.model),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.complete, methods=["POST"]),
            ],
            exception_handlers={HTTPException: self._http_error},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self.engine.start()
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self.stopping = True
            watch.cancel()
            await asyncio.to_thread(self.engine.stop)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            self.engine.sweep()

    async def _http_error(self, _: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        self.counts[f"status_{problem.status_code}"] += 1
        return JSONResponse(error(str(problem.detail), "invalid_request_error"), problem.status_code, problem.headers)

    # -- small routes ----------------------------------------------------------------------------------------------------------------

    async def root(self, _: Request) -> Response:
        return JSONResponse({"service": "posttrain", "model": self.front.name})

    async def health(self, _: Request) -> Response:
        e = self.engine
        up = e.thread.is_alive() and not self.stopping
        told = {"status": "ok" if up else "stopping", "faults": e.faults, "running": len(e.live), "waiting": e.waiting}
        return JSONResponse(told, 200 if up else 503)

    async def metrics(self, _: Request) -> Response:
        """Prometheus text."""
        e = self.engine
        rows = {
            "running_requests": len(e.live), "waiting_requests": e.waiting, "decoded_tokens_total": e.decoded,
            "finished_requests_total": e.finished, "cancelled_requests_total": e.cancelled, "faults_total": e.faults,
            "request_seconds_total": round(self.seconds, 3), "uptime_seconds": round(time.time() - self.started, 1),
        }  # fmt: skip
        rows |= {f"{name}_total": count for name, count in sorted(self.counts.items())}
        return PlainTextResponse("".join(f"posttrain_{name} {value}\n" for name, value in rows.items()))

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(document(bool(self.keys)))

    async def models(self, request: Request) -> Response:
        self._key(request)
        return JSONResponse({"object": "list", "data": [self._card(self.front.name)]})

    async def model(self, request: Request) -> Response:
        self._key(request)
        return JSONResponse(self._card(str(request.path_params["name"])[:128]))

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": int(self.started), "owned_by": "posttrain"}

    def _key(self, request: Request) -> Key:
        if not self.keys:
            return Key("anyone")
        given = request.headers.get("authorization", "")
        digest = hashlib.sha256(given.removeprefix("Bearer ").strip().encode("utf-8", "replace")).hexdigest()
        found = [key for known, key in self.keys.items() if hmac.compare_digest(known, digest)]
        if not given.startswith("Bearer ") or not found:
            raise HTTPException(401, "no such key", {"www-authenticate": "Bearer"})
        return found[0]

    # -- answers ---------------------------------------------------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        return await self._answer(request, chat=True)

    async def complete(self, request: Request) -> Response:
        return await self._answer(request, chat=False)

    async def _answer(self, request: Request, chat: bool) -> Response:
        began = time.monotonic()
        async with self._room:
            try:
                key = self._key(request)
                if self.stopping:
                    raise HTTPException(503, "the server is shutting down", {"retry-after": "5"})
                ask = read_ask(body_of(await self._body(request)), chat)
                made = await self._begin(ask, key, chat)
                if ask.stream:
                    self.counts["status_200"] += 1
                    return Stream(made, ask.usage, self.engine, self.finished if self.aloof else None, self.counts)
                response = await self._whole(request, made)
            except Misuse as problem:
                response = JSONResponse(error(str(problem), "invalid_request_error", problem.param), 400)
            except ClientDisconnect:
                response = Response(status_code=400)
            self.counts[f"status_{response.status_code}"] += 1
            self.seconds += time.monotonic() - began
            return response

    async def _body(self, request: Request) -> bytes:
        """The body, or 413. What is over the limit is still taken and dropped for a while: a client that is cut off while it sends never
        reads the answer. All of it has `STALL` seconds: one byte a minute would hold a place at the door for ever."""
        raw, size, until = bytearray(), 0, time.monotonic() + STALL
        parts = request.stream()
        try:
            while size <= DROPPED * self.body:
                part = await asyncio.wait_for(anext(parts), max(0.0, until - time.monotonic()))
                size += len(part)
                if size <= self.body:
                    raw += part
        except StopAsyncIteration:
            if size <= self.body:
                return bytes(raw)
        except TimeoutError:
            raise Misuse("the body did not arrive") from None
        raise HTTPException(413, f"the body may hold {self.body} bytes", {"connection": "close"})

    async def _begin(self, ask: Ask, key: Key, chat: bool) -> Asked:
        """Cut, guard and queue the prompts of a request."""
        try:
            guard = self.front.guard(ask.guard, key)
        except ValueError as problem:
            raise Misuse(str(problem), "posttrain") from None
        seed = ask.seed if ask.seed is not None else secrets.randbits(62)
        name = ("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12)
        asked = Asked(ask, name, asyncio.Queue(), asyncio.get_running_loop())
        sizes = cut = 0
        limit = self.front.context - max(1, min(ask.sampling.max_tokens, self.front.context // 4))
        for i, prompt in enumerate(ask.chats):
            fitted, lost = await asyncio.to_thread(fit, prompt, limit, self.front.count)
            sizes, cut = sizes + await asyncio.to_thread(self.front.count, fitted), cut + lost
            wishes = any((ask.bias, ask.frequency, ask.presence, ask.top, guard is not None))
            steer = Wishes(ask.bias, ask.frequency, ask.presence, ask.top, guard) if wishes else None
            asked.steers.append(steer)
            asked.prompts.append(Prompt(fitted, ask.sampling, ask.n, seed, f"{name}/{i}", steer))
        asked.reply = Reply(
            name, int(time.time()), self.front.name, chat, ask.n, len(ask.chats), sizes, cut, ask.logprobs, self.front.token_text,
            asked.steers,
        )  # fmt: skip
        self.counts["truncated_requests"] += bool(cut)
        for i, prompt_request in enumerate(asked.prompts):
            refused = await asyncio.to_thread(self.front.blocked, prompt_request.prompt)
            if refused is not None:
                for k in range(ask.n):
                    asked.queue.put_nowait((i * ask.n + k, Event(prompt_request.id or "", k, refused, stop=FILTERED)))
                continue
            asked.live.append(self.engine.submit(prompt_request, asked.listener(i)))
        return asked

    def finished(self, asked: Asked, index: int, text: str) -> str:
        """The text of a finished answer as it may be shown."""
        prompt = asked.prompts[index // asked.ask.n]
        steer = asked.steers[index // asked.ask.n]
        return self.front.checked(prompt.prompt, text if steer is None else steer.settle(text))

    async def _whole(self, request: Request, asked: Asked) -> Response:
        assert asked.reply is not None
        left = len(asked.reply.answers)
        left_us = asyncio.create_task(gone(request))
        try:
            while left:
                news = asyncio.create_task(asked.queue.get())
                await asyncio.wait({news, left_us}, return_when=asyncio.FIRST_COMPLETED)
                if not news.done():
                    news.cancel()
                    self.counts["disconnects"] += 1
                    for live in asked.live:
                        self.engine.end(live)
                    return Response(status_code=400)
                index, event = news.result()
                asked.reply.answers[index].take(event)
                left -= event.stop is not None
        finally:
            left_us.cancel()
        for index, answer in enumerate(asked.reply.answers):
            shown = await asyncio.to_thread(self.finished, asked, index, answer.text)
            if shown != answer.text:
                answer.text, answer.stop = shown, FILTERED
        return JSONResponse(asked.reply.whole(asked.name), headers=asked.headers())
