"""A reward behind HTTP: scores in order, tries again where that helps, clear refusals; an audit runs over it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from posttrain.audit import RewardModelAuditor
from posttrain.client import CallFailed, RewardEndpoint
from posttrain.core.group import group


class Desk:
    """A server that scores by length. script: what to say first, as (status, body)."""

    def __init__(self) -> None:
        self.script: list[tuple[int, str]] = []
        self.calls: list[dict[str, Any]] = []
        desk = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                desk.calls.append({"rows": body["rows"], "key": self.headers.get("Authorization")})
                scores = [None if not r["answer"] else float(len(r["answer"])) for r in body["rows"]]
                status, text = desk.script.pop(0) if desk.script else (200, json.dumps({"scores": scores}))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/score"


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_scores_come_in_order_and_null_is_no_score(desk: Desk) -> None:
    groups = [group("a?", "1", "22"), group("b?", "", *("x" * k for k in range(3, 90)))]
    said = RewardEndpoint(desk.url)(groups)
    assert [s.value for s in said[0]] == [1.0, 2.0] and said[1][0].value is None
    assert [s.value for s in said[1][1:]] == [float(k) for k in range(3, 90)]
    assert len(desk.calls) == 2 and desk.calls[0]["rows"][0]["messages"] == [{"role": "user", "content": "a?"}]


def test_busy_servers_are_asked_again_and_nonsense_is_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORE_KEY", "secret-word")
    reward = RewardEndpoint(desk.url, key_variable="SCORE_KEY", unit=0.001)
    desk.script = [(503, "later"), (429, "later")]
    assert reward([group("a?", "123")])[0][0].value == 3.0 and len(desk.calls) == 3
    assert desk.calls[0]["key"] == "Bearer secret-word"
    for status, text, says in (
        (200, "[]", "the reply is not"),
        (200, '{"scores": [1, 2]}', "1 numbers or nulls"),
        (200, '{"scores": ["no"]}', "1 numbers or nulls"),
        (401, "who?", "check the key"),
        (302, "", "redirects are not followed"),
    ):
        desk.script = [(status, text)]
        with pytest.raises(CallFailed, match=says) as error:
            reward([group("a?", "123")])
        assert "secret-word" not in str(error.value)


def test_addresses_are_checked() -> None:
    for url, says in (("nowhere", "no address"), ("http://u:p@127.0.0.1/x", "leave keys out")):
        with pytest.raises(ValueError, match=says):
            RewardEndpoint(url)
    with pytest.raises(ValueError, match="use https"):
        RewardEndpoint("http://example.org/score", key_variable="K")


def test_an_audit_names_the_bias_of_a_reward_behind_http(desk: Desk) -> None:
    report = RewardModelAuditor(tests=["T01", "T02"], n=12, reps=0).analyze(RewardEndpoint(desk.url))
    assert "Prefers verbose responses" in report.vulnerabilities
