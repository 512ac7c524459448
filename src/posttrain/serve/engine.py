"""The thread that decodes: one stream of the model takes requests as they come and hands events to whoever asked.

Requests wait in a queue until a slot is free; nobody is refused. What cannot be decoded together is tried alone once, then answered with a
fixed sentence, so that no client hangs and no answer is lost; such faults are counted. A request that is older than `deadline` seconds
ends with what it has. Leaves out more than one model.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from posttrain.core.protocols import Event, Model, Request

log = logging.getLogger("posttrain.serve")
APOLOGY = "The server could not compute an answer to this request."
FILTERED = "content_filter"
FAULT = "fault"
"""The stop reason of an answer that could not be computed; told as ``content_filter`` with a header."""
Listener = Callable[[Event], None]


@dataclass(slots=True, eq=False)
class Live:
    """One accepted request: who listens, since when, and what each answer has given out."""

    request: Request
    listen: Listener
    since: float = field(default_factory=time.monotonic)
    sent: dict[int, str] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    doomed: bool = False


class Engine:
    """model: streams, and takes None for "nothing new". deadline: seconds per request. Counters are read by /metrics."""

    def __init__(self, model: Model, deadline: float = 300.0) -> None:
        self.model, self.deadline = model, deadline
        self.inbox: queue.Queue[Live] = queue.Queue()
        self.live: dict[str, Live] = {}
        self.lock = threading.Lock()
        self.stopping = False
        self.faults = self.decoded = self.finished = self.cancelled = 0
        self.thread = threading.Thread(target=self._run, name="decode", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def stop(self, patience: float = 30.0) -> None:
        """Let running answers finish, at most `patience` seconds, then end the thread."""
        self.stopping = True
        self.thread.join(patience)

    @property
    def waiting(self) -> int:
        return self.inbox.qsize()

    def submit(self, request: Request, listen: Listener) -> Live:
        """Queue a request with an id of its own. `listen` is called from the decoding thread."""
        live = Live(request, listen)
        self.inbox.put(live)
        return live

    def end(self, live: Live) -> None:
        """Its reader is gone or its time is up: free the slots."""
        live.doomed = True
        cancel = getattr(self.model, "cancel", None)
        if cancel is not None and live.request.id in self.live:
            cancel(live.request.id)

    def sweep(self) -> None:
        """Called now and then: ends what is overdue, and repeats the end of what is still there."""
        now = time.monotonic()
        for live in list(self.live.values()):
            if live.doomed or now - live.since > self.deadline:
                self.end(live)

    def _feed(self) -> Iterator[Request | None]:
        while not (self.stopping and not self.live and self.inbox.empty()):
            try:
                live = self.inbox.get_nowait() if self.live else self.inbox.get(timeout=0.05)
            except queue.Empty:
                yield None
                continue
            if live.doomed or time.monotonic() - live.since > self.deadline:
                self._close(live, "length")
                continue
            assert live.request.id is not None, "the server names every request"
            self.live[live.request.id] = live
            yield live.request

    def _run(self) -> None:
        while not (self.stopping and not self.live and self.inbox.empty()):
            try:
                for event in self.model.stream(self._feed()):  # type: ignore[arg-type]
                    self._deliver(event)
            except Exception as error:  # whatever a row did, its neighbours get their answers
                log.warning("decoding stopped: %s: %s", type(error).__name__, error)
                self._alone()

    def _deliver(self, event: Event) -> None:
        live = self.live.get(event.id)
        if live is None:
            return
        self.decoded += len(event.tokens)
        live.sent[event.index] = live.sent.get(event.index, "") + event.text
        live.tokens[event.index] = live.tokens.get(event.index, 0) + len(event.tokens)
        self._tell(live, event)
        if event.stop is not None:
            live.ended.add(event.index)
            if len(live.ended) == live.request.n:
                self._forget(live)

    def _tell(self, live: Live, event: Event) -> None:
        try:
            live.listen(event)
        except RuntimeError:  # its event loop is closed
            live.doomed = True

    def _forget(self, live: Live) -> None:
        assert live.request.id is not None
        self.live.pop(live.request.id, None)
        self.finished += 1
        self.cancelled += live.doomed

    def _close(self, live: Live, stop: str, text: str = "") -> None:
        """End all answers that have not ended."""
        for index in range(live.request.n):
            if index not in live.ended:
                self._tell(
                    live, Event(live.request.id or "", index, text if not live.sent.get(index) else "", stop=stop)
                )
                live.ended.add(index)
        self._forget(live)

    def _alone(self) -> None:
        """After a failure: each request that was running, by itself, once."""
        for live in list(self.live.values()):
            try:
                group = self.model.generate([live.request])[0]
                for index, response in enumerate(group.responses):
                    if index in live.ended:
                        continue
                    before, skip = live.sent.get(index, ""), live.tokens.get(index, 0)
                    text = response.text[len(before) :] if response.text.startswith(before) else ""
                    tokens = () if response.tokens is None else tuple(int(t) for t in response.tokens[skip:])
                    logps = () if response.logps is None else tuple(float(p) for p in response.logps[skip:])
                    self._tell(
                        live, Event(live.request.id or "", index, text, tokens, logps, logps, response.stop or "stop")
                    )
                    live.ended.add(index)
                self._forget(live)
            except Exception as error:
                log.warning("request %s failed alone: %s: %s", live.request.id, type(error).__name__, error)
                self.faults += 1
                self._close(live, FAULT, APOLOGY)
