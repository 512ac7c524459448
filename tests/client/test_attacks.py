"""An attacker's reading of the client: no key in any file, message or other host's log; replies that try to break the job do not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posttrain.client import CallFailed, Endpoint
from posttrain.client.wire import read_reply
from posttrain.core.chat import Message, as_chat
from posttrain.core.files import read_lines
from posttrain.core.group import group
from posttrain.core.protocols import Request, Sampling
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from tests.client.stub import serving

KEY = "sk-planted-7391"
ONE = [Request(as_chat("hello"), Sampling(max_tokens=8))]


@contextmanager
def listening(status: int, headers: dict[str, str], body: bytes = b"{}") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives one reply to everything and keeps the headers it got."""
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Silent."""

        def any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got.append(dict(self.headers))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = any

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", got
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", KEY)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_no_other_host_sees_the_key(status: int) -> None:
    with (
        listening(200, {}) as (other, seen),
        listening(status, {"Location": f"{other}/chat/completions"}) as (url, first),
    ):
        with pytest.raises(CallFailed, match=f"HTTP {status}"):
            Endpoint(url, "m", key_variable="PLANTED", tries=1).generate(ONE)
        assert first[0]["Authorization"] == f"Bearer {KEY}" and not seen


def test_rows_cannot_choose_where_calls_go() -> None:
    """Addresses in prompts, facts and tools are text: only the recipe's address is called."""
    with listening(200, {}) as (other, seen), serving(lambda asked: "fine") as stub:
        tools = ({"name": "fetch", "url": other, "parameters": {"url": other}},)
        asked = Request(
            (Message("system", f"base_url: {other}"), Message("user", f"![x]({other}/a.png) {other}")),
            Sampling(max_tokens=8), facts={"url": other, "base_url": other, "model": other}, tools=tools,
        )  # fmt: skip
        (made,) = Endpoint(stub.url, "m", key_variable="PLANTED").generate([asked])
        assert made.responses[0].text == "fine" and not seen


def test_the_key_is_in_no_file_that_a_job_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The server repeats the key in its answers and in its refusals; it is struck out of both."""
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps(group(f"question {i}", "one", "two").to_json()) + "\n" for i in range(6)))
    with serving(lambda asked: f"your key is {KEY} <verdict>A</verdict>") as stub:
        fields = {"job": "judge", "data": str(data), "model": "m", "url": stub.url, "key_variable": "PLANTED"}
        build_job({**fields, "out": str(tmp_path / "j.jsonl"), "ledger": str(tmp_path / "l.db")}).run(
            Context(bars=False)
        )
        assert KEY in stub.headers[0]
        made = Endpoint(stub.url, "m", tmp_path / "own.db", key_variable="PLANTED").generate(ONE)[0]
        assert "[key]" in made.responses[0].text
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert len(files) > 4 and not [f for f in files if KEY.encode() in f.read_bytes()]
    told = capsys.readouterr()
    assert KEY not in told.out + told.err and read_lines(tmp_path / "j.jsonl")
    for file in tmp_path.glob("*.answers.db*"):
        assert file.stat().st_mode & 0o077 == 0, f"{file}: others may read it"


def test_a_key_travels_in_clear_only_inside_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="would travel in clear") as caught:
        Endpoint("http://models.example/v1", "m", key_variable="PLANTED", tries=1).generate(ONE)
    assert KEY not in str(caught.value)
    assert Endpoint("https://models.example/v1", "m", key_variable="PLANTED")._headers() == {
        "Authorization": f"Bearer {KEY}"
    }
    assert Endpoint("http://models.example/v1", "m", key_variable=None)._headers() == {}
    monkeypatch.setenv("PLANTED", "sk-\nInjected: yes")
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Endpoint("http://127.0.0.1:1/v1", "m", key_variable="PLANTED").generate(ONE)
    assert "Injected" not in str(caught.value)


def completion(content: Any, **more: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}], **more})


def test_replies_made_to_break_the_job(tmp_path: Path) -> None:
    for text in ("[" * 200_000, '{"choices": ' * 50_000, completion({"a": 1}), "9" * 9000):
        with pytest.raises(CallFailed) as caught:
            read_reply(text)
        assert caught.value.kind == "broken"
    huge = read_reply(completion("x", usage={"prompt_tokens": 10**30, "completion_tokens": -1}))
    assert (huge.tokens_in, huge.tokens_out) == (None, None)
    odd = completion("a \ud800 b \x00").encode()
    with listening(200, {}, odd) as (url, _):
        made = Endpoint(url, "m", tmp_path / "s.db", key_variable=None).generate(ONE)[0].responses[0].text
        assert "\ufffd" in made and made.encode("utf-8")
        again = Endpoint(url, "m", tmp_path / "s.db", key_variable=None)
        assert again.generate(ONE)[0].responses[0].text == made and again.counts["known"] == 1
    with listening(200, {}, b" " * (17 * 2**20)) as (url, _), pytest.raises(CallFailed, match="longer than 16 MiB"):
        Endpoint(url, "m", key_variable=None, tries=1).generate(ONE)


def test_a_prompt_that_utf8_cannot_hold_is_sent_as_it_is() -> None:
    with serving(lambda asked: asked["messages"][0]["content"]) as stub:
        (made,) = Endpoint(stub.url, "m", key_variable=None).generate(
            [Request((Message("user", "a\ud800"),), Sampling(max_tokens=9))]
        )
        assert made.responses[0].text.startswith("a")
