"""A request on its way, and its answer as server-sent events.

A reader that leaves, or that takes no chunk for `STALL` seconds, frees its slots. Decoding never waits for a reader: what it has not taken
yet is at most the tokens that it asked for.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from posttrain.core.protocols import Event
from posttrain.core.protocols import Request as Prompt
from posttrain.serve.ask import Ask
from posttrain.serve.engine import FAULT, FILTERED, Engine, Live
from posttrain.serve.replies import Reply, line
from posttrain.serve.wishes import Wishes

STALL = 60.0
"""Seconds that a reader may leave a chunk of its stream, or a writer take for its body, before it is let go."""
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Checked = Callable[["Asked", int, str], str]
"""The text of a finished answer as it may be shown."""


@dataclass
class Asked:
    """One request on its way: its prompts, who decodes them, and the events that came."""

    ask: Ask
    name: str
    queue: asyncio.Queue[tuple[int, Event]]
    loop: asyncio.AbstractEventLoop
    prompts: list[Prompt] = field(default_factory=list)
    steers: list[Wishes | None] = field(default_factory=list)
    live: list[Live] = field(default_factory=list)
    reply: Reply | None = None

    def listener(self, prompt: int) -> Callable[[Event], None]:
        def listen(event: Event) -> None:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, (prompt * self.ask.n + event.index, event))

        return listen

    def headers(self) -> dict[str, str]:
        """What a reader should know before the body: cuts, unknown fields, faults."""
        assert self.reply is not None
        out = {"x-posttrain-guard-log": self.name}
        if self.reply.cut:
            out["x-posttrain-truncated"] = str(self.reply.cut)
        if self.ask.unknown:
            named = json.dumps(list(self.ask.unknown[:16]))
            out["x-posttrain-ignored"] = named[:1000]
        if any(a.stop == FAULT for a in self.reply.answers):
            out["x-posttrain-fault"] = "1"
        return out


async def gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Stream(Response):
    """Server-sent events. A reader that leaves, or takes a chunk no faster than once in `STALL` seconds, frees its slots."""

    def __init__(
        self, asked: Asked, usage: bool, engine: Engine, checked: Checked | None, counts: Counter[str]
    ) -> None:
        super().__init__(headers={**asked.headers(), "cache-control": "no-store"}, media_type="text/event-stream")
        self.asked, self.usage, self.engine, self.checked, self.counts = asked, usage, engine, checked, counts
        del self.headers["content-length"]

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        left = asyncio.create_task(gone(Request(scope, receive)))
        talk = asyncio.create_task(self._talk(send))
        try:
            await asyncio.wait({left, talk}, return_when=asyncio.FIRST_COMPLETED)
            if talk.done():
                talk.result()
        except (OSError, TimeoutError):
            self.counts["stalled_readers"] += 1
        finally:
            if not talk.done():
                self.counts["disconnects"] += 1
            left.cancel()
            talk.cancel()
            for live in self.asked.live:
                if len(live.ended) < live.request.n:
                    self.engine.end(live)

    async def _talk(self, send: Send) -> None:
        async def say(body: bytes, more: bool = True) -> None:
            await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": more}), STALL)

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        reply = self.asked.reply
        assert reply is not None
        left, begun = len(reply.answers), set[int]()
        whole = dict.fromkeys(range(left), "")
        while left:
            index, event = await self.asked.queue.get()
            whole[index] += event.text
            event = await self._shown(index, event, whole[index])
            made = reply.chunk(index, event, index not in begun)
            begun.add(index)
            left -= event.stop is not None
            if made is not None:
                await say(line(made))
        if self.usage:
            await say(line(reply.last()))
        await say(b"data: [DONE]\n\n", more=False)

    async def _shown(self, index: int, event: Event, whole: str) -> Event:
        """The event as it may be seen: held back until the end where whole answers are read first."""
        if self.checked is None:
            return event
        if event.stop is None:
            return replace(event, text="")
        text = await asyncio.to_thread(self.checked, self.asked, index, whole)
        return replace(event, text=text, stop=FILTERED if text != whole else event.stop)
