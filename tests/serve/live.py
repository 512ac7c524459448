"""A server of ours on a free port of this machine, in a thread of this process."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from posttrain.jobs.serving import Serve
from posttrain.serve.app import Server


class Live:
    """A running server: `port`, and plain calls to it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        config = uvicorn.Config(server.app(), port=0, log_level="error", access_log=False, http="h11", ws="none")
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run, daemon=True)
        self.thread.start()
        while not self.uvicorn.started:
            assert self.thread.is_alive(), "the server did not start"
            time.sleep(0.02)
        self.port = self.uvicorn.servers[0].sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers in lower case, body). body: bytes as they are, anything else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, raw, headers or {})
        answer = connection.getresponse()
        out = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return out

    def chat(self, said: Any, **fields: Any) -> tuple[int, dict[str, str], Any]:
        """A chat completion; `said` is a text or messages."""
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        status, headers, raw = self.call(
            "POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 4, **fields}
        )
        return status, headers, json.loads(raw)

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self.thread.join(30)


@contextlib.contextmanager
def serving(**fields: Any) -> Iterator[Live]:
    """The shipped base model behind a live server."""
    live = Live(Serve(model="base", **fields).server())
    try:
        yield live
    finally:
        live.stop()
