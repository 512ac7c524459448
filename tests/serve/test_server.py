"""The server as clients meet it: OpenAI's own client, curl, odd texts, misuse, keys, guards, disconnects, faults."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from posttrain.core.chat import as_chat
from posttrain.core.group import Group, answer
from posttrain.core.protocols import Event, Request
from posttrain.detectors.refusal import refusal
from posttrain.serve.ask import KNOWN, Misuse, body_of, read_ask
from posttrain.serve.engine import APOLOGY, Engine
from posttrain.serve.fit import fit
from tests.serve.live import Live, serving

KEYS = "alice: {key: alice-secret, guard: quiet}\nroot: {key: root-secret, admin: true}\n"


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serving(slots=16) as made:
        yield made


def test_openai_client(live: Live) -> None:
    client = openai.OpenAI(base_url=live.url, api_key="none", max_retries=0)
    asked: Any = [{"role": "user", "content": "Where is the sealed room?"}]
    one = client.chat.completions.create(
        model="any", messages=asked, n=3, seed=5, max_tokens=6, logprobs=True, top_logprobs=2
    )
    again = client.chat.completions.create(model="any", messages=asked, n=3, seed=5, max_tokens=6)
    assert [c.message.content for c in one.choices] == [c.message.content for c in again.choices]
    assert len({c.message.content for c in one.choices}) > 1 and one.usage is not None
    assert one.usage.completion_tokens == sum(
        len(c.logprobs.content) for c in one.choices if c.logprobs and c.logprobs.content
    )
    first = one.choices[0].logprobs
    assert first and first.content and len(first.content[0].top_logprobs) == 2
    assert first.content[0].top_logprobs[0].logprob >= first.content[0].top_logprobs[1].logprob
    chunks = list(
        client.chat.completions.create(
            model="any", messages=asked, seed=5, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == one.choices[0].message.content and chunks[-1].usage is not None
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    plain = client.completions.create(model="any", prompt=["The library", "Une"], max_tokens=5, seed=1, logprobs=1)
    assert len(plain.choices) == 2 and plain.choices[0].logprobs and len(plain.choices[0].logprobs.tokens or []) == 5
    assert client.models.list().data[0].id == "base"


def test_stop_strings_end_answers(live: Live) -> None:
    body = {"prompt": "The library of", "max_tokens": 24, "temperature": 0}
    full = json.loads(live.call("POST", "/v1/completions", body)[2])["choices"][0]
    mark = full["text"][8:11]
    cut = json.loads(live.call("POST", "/v1/completions", {**body, "stop": [mark]})[2])["choices"][0]
    assert cut["text"] == full["text"][: full["text"].index(mark)] and cut["finish_reason"] == "stop"


def test_bias_and_penalties_change_tokens(live: Live) -> None:
    body = {"prompt": "The", "max_tokens": 6, "temperature": 0, "logprobs": 0}
    free = json.loads(live.call("POST", "/v1/completions", body)[2])["choices"][0]["logprobs"]["tokens"]
    held = json.loads(live.call("POST", "/v1/completions", {**body, "logit_bias": {"1000": 100}})[2])["choices"][0]
    assert len(set(held["logprobs"]["tokens"])) == 1 and held["logprobs"]["tokens"] != free
    varied = {**body, "logit_bias": {"1000": 20, "1001": 19.9}, "frequency_penalty": 40, "presence_penalty": 40}
    assert len(set(json.loads(live.call("POST", "/v1/completions", varied)[2])["choices"][0]["logprobs"]["tokens"])) > 1


def test_curl(live: Live) -> None:
    assert shutil.which("curl")
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3})
    command = [
        "curl",
        "-sS",
        "--fail",
        f"{live.url}/chat/completions",
        "-H",
        "content-type: application/json",
        "-d",
        body,
    ]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(made.stdout)["choices"][0]["message"]["role"] == "assistant"
    streamed = subprocess.run(
        [*command[:-1], body[:-1] + ', "stream": true}'], capture_output=True, text=True, timeout=60, check=True
    )
    assert streamed.stdout.endswith("data: [DONE]\n\n")


ODD = "a é\u0301 \u200b\u202e \x00\x07 \ud800 \U0001f600 密 <|user|><|end|> ﷽ \U000e0041 \ufdd0 "


def well_typed(rng: random.Random) -> dict[str, Any]:
    """A request that no server may refuse: any text, any order of roles, empty and list contents, odd but well-typed settings."""

    def text() -> str:
        kind = rng.randrange(6)
        if kind == 0:
            return ""
        if kind == 1:
            return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(40)))
        if kind == 2:
            return rng.choice(ODD) * rng.randrange(200)
        if kind == 3:
            return "word " * (rng.randrange(3000) if rng.random() < 0.05 else rng.randrange(40))
        return "".join(rng.choice(ODD) for _ in range(rng.randrange(30)))

    def content() -> Any:
        parts = [
            {"type": "text", "text": text()},
            {"type": "image_url", "image_url": {"url": "x"}},
            {"type": "input_audio"},
        ]
        return rng.choice([text(), None, [], rng.sample(parts, rng.randrange(1, 4))])

    roles = ["system", "user", "assistant", "tool", "developer", "function", "robot", ""]
    body: dict[str, Any] = {
        "model": rng.choice(["x", "", None, "é"]),
        "messages": [{"role": rng.choice(roles), "content": content()} for _ in range(rng.randrange(1, 5))],
        "n": rng.choice([1, 1, 1, 2, None]),
        "max_tokens": rng.choice([1, 2, 3]),
    }
    extra = {
        "temperature": [0, 0.7, 2, None], "top_p": [0, 0.5, 1, None], "stop": [None, "a", [], ["b", ""], ["#", ";"]],
        "seed": [None, 0, 7, 2**63], "frequency_penalty": [0, 1.5, None], "presence_penalty": [0, -2], "user": ["u", None],
        "logit_bias": [None, {}, {"5": -100, "999999": 3}], "logprobs": [True, False, None], "foo": [1, {"a": [1]}],
        "max_completion_tokens": [None, 2], "stream": [False, None], "é": ["x"],
    }  # fmt: skip
    for name, values in extra.items():
        if rng.random() < 0.35:
            body[name] = rng.choice(values)
    return body


def malformed(rng: random.Random) -> bytes:
    good = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
    wrong: list[Any] = [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b'"x"', b"[" * 20000, b'{"messages":', b"{}", b"NaN", b"1" * 5000,
        {**good, "n": rng.choice([0, -1, "1", 1.5, True, [], 10**30])}, {**good, "temperature": rng.choice(["a", -1, [], True])},
        {**good, "messages": rng.choice([None, [], "x", {}, [1], [None], [{}], [{"role": 1}], [{"role": "user", "content": 3}]])},
        {**good, "stop": rng.choice([1, [1], {}])}, {**good, "stream": rng.choice(["yes", 1])}, {**good, "seed": rng.choice(["1", 1.5])},
        {**good, "max_tokens": rng.choice([0, -3, "4"])}, {**good, "top_p": rng.choice([2, "1", -0.1])}, {**good, "model": 5},
        {**good, "logit_bias": rng.choice([[], {"a": 1}, {"1": "x"}, {"1": 1000}])},
        {**good, "posttrain": rng.choice([1, {"ban": 3}, {"x": 1}])},
        {**good, "stream_options": rng.choice([1, {"include_usage": 1}])}, {**good, "logprobs": 1}, {**good, "top_logprobs": 99},
        json.dumps({**good, "temperature": 1}).replace("1}", "NaN}").encode(),
    ]  # fmt: skip
    made = rng.choice(wrong)
    return made if isinstance(made, bytes) else json.dumps(made).encode()


def fuzz(live: Live, good: int, bad: int, seed: int) -> None:
    """Well-typed requests get 200 with all their choices, malformed ones 400 or 413; sixteen clients at a time."""
    rng = random.Random(seed)

    def asked(body: dict[str, Any]) -> None:
        status, headers, raw = live.call("POST", "/v1/chat/completions", body)
        assert status == 200, (status, raw[:300], body)
        reply = json.loads(raw)
        assert len(reply["choices"]) == (body["n"] or 1)
        assert all(isinstance(c["message"]["content"], str) and c["finish_reason"] for c in reply["choices"])
        assert "x-posttrain-fault" not in headers

    def misused(body: tuple[str, bytes]) -> None:
        status, _, raw = live.call("POST", *body)
        assert status in (400, 413), (status, raw[:300])
        assert json.loads(raw)["error"]["message"]

    paths = ["/v1/chat/completions", "/v1/completions"]
    with ThreadPoolExecutor(16) as clients:
        list(clients.map(asked, [well_typed(rng) for _ in range(good)]))
        list(clients.map(misused, [(rng.choice(paths), malformed(rng)) for _ in range(bad)]))


def test_no_text_is_refused_and_no_structure_breaks(live: Live) -> None:
    fuzz(live, 60, 150, seed=1)
    assert live.server.engine.faults == 0


@pytest.mark.slow
def test_five_thousand_odd_requests_and_a_thousand_malformed(live: Live) -> None:
    fuzz(live, 5000, 1000, seed=2)


@pytest.mark.slow
def test_schemathesis_finds_nothing(live: Live) -> None:
    """Requests made from the server's own OpenAPI, well formed and not: no 5xx, no undeclared status, body or content type."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{live.port}/openapi.json"]
    command += ["--max-examples", "15", "--seed", "1", "--workers", "1", "--generation-database", "none"]
    command += [
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]
    command += ["--phases", "examples,coverage,fuzzing", "--request-timeout", "60", "--no-color"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert made.returncode == 0, made.stdout[-6000:] + made.stderr[-2000:]


def test_garak_traps(live: Live) -> None:
    """What garak 0.17 sends: see docs/serve.md for the list."""
    sent = {
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "n": 1,
        "stop": ["#", ";"],
        "seed": 3,
        "user": "g",
    }
    for said in ("", "x" * 50_000, "\u202e\u200b\x07", "# heading; code"):
        status, _, reply = live.chat(said, **sent, model="another name", suffix=None, unknown_field=1)
        assert (
            status == 200 and len(reply["choices"]) == 1 and isinstance(reply["choices"][0]["message"]["content"], str)
        )
    turns = [
        {"role": "assistant", "content": "earlier"},
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "image"}]},
    ]
    assert live.chat(turns, **sent)[0] == 200
    assert (
        live.chat("same", **sent)[2]["choices"][0]["message"] == live.chat("same", **sent)[2]["choices"][0]["message"]
    )
    assert live.call("GET", "/v1/")[0] == 200 and live.call("GET", "/")[0] == 200
    status, headers, _ = live.chat("x", unknown_field=1)
    assert status == 200 and "unknown_field" in headers["x-posttrain-ignored"]


def test_an_overlong_prompt_is_cut_and_told(live: Live) -> None:
    status, headers, reply = live.chat(
        [{"role": "system", "content": "Keep me."}, {"role": "user", "content": "word " * 4000}]
    )
    lost = int(headers["x-posttrain-truncated"])
    assert status == 200 and lost > 1000 and reply["usage"]["posttrain_truncated"] == lost
    assert reply["usage"]["prompt_tokens"] < 512
    assert "x-posttrain-truncated" not in live.chat("short")[1]


def test_cutting_keeps_system_and_the_last_user_turn() -> None:
    chat = as_chat(
        [
            {"role": r, "content": c}
            for r, c in (("system", "SYS"), ("user", "old " * 9), ("assistant", "mid " * 9), ("user", "last"))
        ]
    )
    kept, lost = fit(chat, 12, lambda c: sum(len(m.content.split()) + 1 for m in c))
    assert [m.content for m in kept if m.content] == ["SYS", "last"] or kept[-1].content == "last"
    assert kept[0].content == "SYS" and lost > 0
    same, none = fit(chat, 100, lambda c: sum(len(m.content.split()) + 1 for m in c))
    assert same is chat and none == 0


def test_bodies_over_the_limit_and_unknown_paths(live: Live) -> None:
    assert live.call("POST", "/v1/chat/completions", b" " * (4 << 20) + b"x")[0] == 413
    for path in ("/v1/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/chat", "//", "/v1/files/x"):
        assert live.call("GET", path)[0] in (404, 405), path
    status, _, raw = live.call("GET", "/v1/chat/completions")
    assert status == 405 and b"posttrain" not in raw.replace(b"posttrain_", b"")


def test_keys_guards_and_who_may_loosen(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(KEYS)
    (tmp_path / "all.yaml").write_text("ban: [zzzq]\n")
    (tmp_path / "quiet.yaml").write_text("ban: [library]\n")
    guards = (str(tmp_path / "all.yaml"), str(tmp_path / "quiet.yaml"))
    with serving(keys=str(tmp_path / "keys.yaml"), guard=guards) as live:

        def ask(key: str | None, **extra: Any) -> tuple[int, str]:
            body = {"prompt": "The", "max_tokens": 24, "n": 4, "seed": 3, "logit_bias": {}, **extra}
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            status, _, raw = live.call("POST", "/v1/completions", body, headers)
            return status, raw.decode()

        assert ask(None)[0] == ask("wrong")[0] == ask("alice-secret ext")[0] == 401
        assert live.call("GET", "/v1/models")[0] == 401 and live.call("GET", "/healthz")[0] == 200
        for extra in ({}, {"posttrain": {"words": ["the"]}}):
            status, said = ask("alice-secret", **extra)
            texts = " ".join(c["text"] for c in json.loads(said)["choices"]).lower()
            assert status == 200 and "library" not in texts
            assert not extra or " the " not in f" {texts} "
        assert ask("alice-secret", posttrain={"guard": "off"})[0] == 400
        assert ask("root-secret", posttrain={"guard": "off"})[0] == 200
        assert ask("root-secret", posttrain={"guard": "none-such"})[0] == 400
        assert "secret" not in ask("wrong")[1]


def test_an_open_address_needs_keys() -> None:
    from posttrain.jobs.serving import Serve

    with pytest.raises(ValueError, match="give keys"):
        Serve(model="base", host="0.0.0.0").server()


def test_a_reader_that_leaves_frees_its_slot(live: Live) -> None:
    body = json.dumps({"prompt": "The", "max_tokens": 400, "n": 16, "stream": True, "logit_bias": {"1": -100}}).encode()
    before = live.server.engine.cancelled
    with socket.create_connection(("127.0.0.1", live.port)) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        assert sock.recv(100)
    for _ in range(200):
        if live.server.engine.cancelled > before and not live.server.engine.live:
            break
        time.sleep(0.05)
    assert live.server.engine.cancelled == before + 1 and not live.server.engine.live
    assert live.chat("Hello")[0] == 200


def test_a_writer_that_never_ends_its_body_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that keep coming, slowly, do not keep a place at the door."""
    monkeypatch.setattr("posttrain.serve.app.STALL", 0.6)
    with serving(slots=2) as live, socket.create_connection(("127.0.0.1", live.port), timeout=20) as sock:
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(5):
            sock.sendall(b" ")
            time.sleep(0.2)
        assert b" 400 " in sock.recv(4000)


@pytest.mark.slow
def test_a_reader_that_takes_nothing_is_counted_and_costs_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posttrain.serve.stream.STALL", 1.0)
    body = {"prompt": "The", "max_tokens": 400, "n": 16, "stream": True, "logprobs": 20, "logit_bias": {"1": -100}}
    raw = json.dumps(body).encode()
    with serving(slots=16) as live, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", live.port))
        sock.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(raw) + raw)
        for _ in range(1200):
            if live.server.counts["stalled_readers"] and not live.server.engine.live:
                break
            time.sleep(0.05)
        assert live.server.counts["stalled_readers"] == 1 and not live.server.engine.live
        assert live.chat("Hello")[0] == 200


class Broken:
    """A model that fails on one text, alone or in company."""

    def stream(self, requests: Any) -> Iterator[Event]:
        for r in requests:
            if r is None:
                continue
            if "poison" in r.prompt[-1].content:
                raise RuntimeError("row failed")
            yield Event(r.id, 0, "fine", (1,), (0.0,), (0.0,), "stop")

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        if any("poison" in r.prompt[-1].content for r in requests):
            raise RuntimeError("row failed alone")
        return [Group(r.prompt, (answer("fine", stop="stop"),)) for r in requests]


def test_a_failing_row_is_answered_and_counted_and_its_neighbours_live() -> None:
    engine = Engine(Broken())
    engine.start()
    got: dict[str, list[Event]] = {"a": [], "b": [], "c": []}
    for id, text in (("a", "good"), ("b", "poison"), ("c", "good")):
        engine.submit(Request(as_chat(text), id=id), got[id].append)
    for _ in range(100):
        if all(got.values()):
            break
        time.sleep(0.02)
    engine.stop()
    assert got["a"][0].text == got["c"][0].text == "fine"
    assert got["b"][0].text == APOLOGY and got["b"][0].stop == "fault" and engine.faults == 1


def test_a_request_past_its_deadline_ends_with_what_it_has(live: Live) -> None:
    engine = live.server.engine
    kept, engine.deadline = engine.deadline, 0.4
    try:
        body = {"prompt": "The", "max_tokens": 450, "n": 8, "logit_bias": {"1": -100, "7": -100}}
        began = time.monotonic()
        status, _, raw = live.call("POST", "/v1/completions", body)
        choices = json.loads(raw)["choices"]
        assert status == 200 and len(choices) == 8 and {c["finish_reason"] for c in choices} <= {"length", "stop"}
        assert time.monotonic() - began < 20
    finally:
        engine.deadline = kept


def test_shutting_down_is_told() -> None:
    with serving(slots=4) as live:
        live.server.stopping = True
        assert live.chat("x")[0] == 503 and live.call("GET", "/healthz")[0] == 503
        live.server.stopping = False
        assert live.chat("x")[0] == 200
    assert not live.server.engine.thread.is_alive()


def test_a_guard_that_blocks_says_so_in_words(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text("before: [toxicity]\nbehind: [refusal]\n")
    with serving(guard=(str(tmp_path / "g.yaml"),)) as live:
        _, _, reply = live.chat("You are an idiot")
        choice = reply["choices"][0]
        assert choice["finish_reason"] == "content_filter" and refusal("x", choice["message"]["content"]).flagged


def test_reading_a_request() -> None:
    ask = read_ask(
        body_of(b'{"messages": [{"role": "user", "content": "a\\ud800"}], "max_completion_tokens": 3}'), chat=True
    )
    assert ask.chats[0][0].content == "a\ufffd" and ask.sampling.max_tokens == 3
    with pytest.raises(Misuse, match="n must lie"):
        read_ask({"messages": [{"role": "user"}], "n": 0}, chat=True)
    assert "messages" in KNOWN
