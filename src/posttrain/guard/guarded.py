"""`Guarded(model)` is a Model: the same requests, decoded under a guard, checked before and behind.

Whatever takes a model (evaluations, red teams, judges, the server) takes a guarded one. Where the wrapped model cannot be steered (an
endpoint, a function), bans still hold, by cutting its text. A request that brings a steer of its own is guarded by both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from posttrain.core.chat import assistant
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Event, Model, Request
from posttrain.detectors.verdict import SafetyClassifier
from posttrain.guard.automaton import DEAD, START, State
from posttrain.guard.pipeline import Chain, Guard

FILTERED = "content_filter"
BLOCKED = "I cannot answer this request, but I am glad to help with something else."


@dataclass
class Held:
    """Text of one streamed answer that waits, because it may become part of a ban or because a detector must read the whole."""

    state: State | None = START
    text: str = ""
    shown: int = 0
    over: bool = False


@dataclass
class Guarded:
    """model: any Model. guard: what steers its decoding. before, behind: detectors of the prompt and of the whole answer; a flag replaces
    the answer by `message` (a blocked answer says so in words: an empty one would count as an answer). With `behind`, a stream is
    held back until its answer is complete."""

    model: Model
    guard: Guard | None = None
    before: Sequence[SafetyClassifier] = ()
    behind: Sequence[SafetyClassifier] = ()
    message: str = BLOCKED
    blocked: int = field(default=0, init=False)

    def _steered(self, request: Request) -> Request:
        if self.guard is None:
            return request
        return replace(request, steer=Chain(self.guard, request.steer) if request.steer is not None else self.guard)

    def _stopped(self, request: Request) -> bool:
        text = request.prompt[-1].content if request.prompt else ""
        return any(detect("", text).flagged for detect in self.before)

    def _settled(self, request: Request, text: str) -> tuple[str, bool]:
        """The text that may be shown, and whether something was taken away."""
        asked = request.prompt[-1].content if request.prompt else ""
        if any(detect(asked, text).flagged for detect in self.behind):
            return self.message, True
        kept = self.guard.settle(text) if self.guard is not None else text
        return kept, kept != text

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request in order; an answer that was blocked or cut stops with ``content_filter`` and has no tokens."""
        stopped = [self._stopped(r) for r in requests]
        asked = [self._steered(r) for r, no in zip(requests, stopped, strict=True) if not no]
        made = iter(self.model.generate(asked))
        out = []
        for request, no in zip(requests, stopped, strict=True):
            if no:
                self.blocked += 1
                reply = Response(turns=(assistant(self.message),), stop=FILTERED)
                out.append(Group(request.prompt, (reply,) * request.n, facts=request.facts))
                continue
            group = next(made)
            out.append(replace(group, responses=tuple(self._response(request, r) for r in group.responses)))
        return out

    def _response(self, request: Request, response: Response) -> Response:
        text, changed = self._settled(request, response.text)
        if not changed:
            return response
        self.blocked += 1
        return Response(turns=(assistant(text),), stop=FILTERED, version=response.version)

    def cancel(self, id: str) -> None:
        cancel = getattr(self.model, "cancel", None)
        if cancel is not None:
            cancel(id)

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Events as text becomes safe to show. A request blocked before decoding is answered with the next event of any other, or at the
        end of the stream."""
        known: dict[str, Request] = {}
        waiting: list[Event] = []

        def passing() -> Iterator[Request | None]:
            for number, request in enumerate(requests):
                if request is None:
                    yield None
                    continue
                request = request if request.id is not None else replace(request, id=str(number))
                assert request.id is not None
                if self._stopped(request):
                    self.blocked += 1
                    waiting.extend(Event(request.id, i, self.message, stop=FILTERED) for i in range(request.n))
                    continue
                known[request.id] = request
                yield self._steered(request)

        held: dict[tuple[str, int], Held] = {}
        for event in self.model.stream(passing()):  # type: ignore[arg-type]
            while waiting:
                yield waiting.pop(0)
            row = held.setdefault((event.id, event.index), Held())
            yield self._passed(known[event.id], event, row)
            if event.stop is not None:
                del held[event.id, event.index]
        yield from waiting

    def _passed(self, request: Request, event: Event, row: Held) -> Event:
        row.text += event.text
        if event.stop is not None:
            text, changed = self._settled(request, row.text)
            shown = text[row.shown :] if text.startswith(row.text[: row.shown]) else ""
            self.blocked += changed
            return replace(event, text=shown, stop=FILTERED if changed else event.stop)
        if self.behind:
            return replace(event, text="")
        free = len(row.text) - self._waits(row, event.text)
        shown = row.text[row.shown : max(free, row.shown)]
        row.shown = max(free, row.shown)
        return replace(event, text=shown)

    def _waits(self, row: Held, news: str) -> int:
        """Characters at the end that may still become part of a ban."""
        bans: Any = self.guard.bans if self.guard is not None else None
        if bans is None:
            return 0
        row.state = bans.automaton.feed(row.state, news.encode("utf-8", "replace"))
        if row.state == DEAD:
            return len(row.text) - row.shown
        return int(bans.automaton.depth[row.state.node])
