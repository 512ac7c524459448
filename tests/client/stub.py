"""A server that answers chat completions and misbehaves as told: busy, failing, slow, cut short, talkative. Counts what it bills."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], str]


@dataclass
class Faults:
    """Shares of first tries that go wrong, by kind."""

    busy: float = 0.0
    server: float = 0.0
    slow: float = 0.0
    cut: float = 0.0
    retry_after: str | None = None
    seconds: float = 2.0
    delay: float = 0.0


@dataclass
class Stub:
    """url: where it listens. billed: how often each idempotency key was answered anew; tried: calls by key."""

    answer: Answer
    faults: Faults = field(default_factory=Faults)
    url: str = ""
    billed: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    headers: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, key: str) -> str | None:
        """What goes wrong with this try, from the key and the number of the try alone."""
        with self.lock:
            self.tried[key] += 1
            number = self.tried[key]
        if number > 2:
            return None
        drawn = random.Random(f"{key}:{number}").random()
        for name in ("busy", "server", "slow", "cut"):
            drawn -= getattr(self.faults, name)
            if drawn < 0:
                return name
        return None


def reply(text: str, asked: dict[str, Any]) -> dict[str, Any]:
    used = sum(len(m["content"]) // 4 for m in asked["messages"]), max(1, len(text) // 4)
    return {
        "model": asked["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": used[0], "completion_tokens": used[1]},
    }


def handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Silent."""

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers.get("Idempotency-Key", "")
            stub.headers.append(self.headers.get("Authorization", ""))
            if stub.faults.delay:
                time.sleep(stub.faults.delay)
            fault = stub.fault(key)
            if fault == "busy":
                return self.send(429, "slow down " + self.headers.get("Authorization", ""), stub.faults.retry_after)
            if fault == "server":
                return self.send(500, "oops")
            body = reply(stub.answer(asked), asked)
            with stub.lock:
                stub.billed[key] += 1
                stub.tokens += sum(body["usage"].values())
            text = json.dumps(body)
            if fault == "slow":
                time.sleep(stub.faults.seconds)
            return self.send(200, text[: len(text) // 2] if fault == "cut" else text)

        def send(self, status: int, text: str, retry_after: str | None = None) -> None:
            raw = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.end_headers()
                self.wfile.write(raw)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news."""


@contextmanager
def serving(answer: Answer, faults: Faults | None = None) -> Iterator[Stub]:
    """A stub that serves on a free port of the loopback address."""
    stub = Stub(answer, faults or Faults())
    server = Quiet(("127.0.0.1", 0), handler(stub))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
