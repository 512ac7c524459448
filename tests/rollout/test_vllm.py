"""The vLLM adapter against a stub of its server, which answers with our own decoder: no real vLLM takes part."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from posttrain.core.chat import as_chat
from posttrain.core.protocols import Request, Sampling
from posttrain.jobs.catalogue import build_job
from posttrain.jobs.job import Context
from posttrain.models.load import load, save
from posttrain.models.render import Renderer
from posttrain.rollout.sampler import Sampler
from posttrain.rollout.vllm import VLLM
from tests.models.tiny import tiny_directory


class Stub(ThreadingHTTPServer):
    """Serves the calls that the adapter makes. calls: paths in order. broken: paths that fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: list[str] = []
        self.broken: set[str] = set()
        self.lost_tokens = False
        self.lock = threading.Lock()
        self.read(path)

    def read(self, path: Path) -> None:
        loaded = load(path, dtype="fp32")
        self.sampler = Sampler(loaded.model, loaded.tokenizer, loaded.stops, Renderer.of(loaded).prompt, threads=1)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            self.read(Path(body["kwargs"]["weights_path"]))
        if path != "/v1/completions":
            return {}
        s = Sampling(temperature=body["temperature"], max_tokens=body["max_tokens"])
        with torch.no_grad():
            (samples,) = self.sampler.decode([body["prompt"]], s, body["n"], body["seed"])
        made = [
            {
                "index": x.index,
                "text": self.sampler.text(x),
                "token_ids": None if self.lost_tokens else x.tokens,
                "prompt_token_ids": body["prompt"],
                "logprobs": {"token_logprobs": x.sampled_logps},
                "finish_reason": x.stop,
                "stop_reason": None,
            }
            for x in samples
        ]
        return {"choices": made[::-1]}


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "policy"}]})

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        with self.server.lock:
            self.server.calls.append(self.path)
            broken = path in self.server.broken
            self.reply(404 if broken else 200, {} if broken else self.server.answer(path, body))

    def reply(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[VLLM, Stub, Any]]:
    path = tiny_directory(tmp_path / "base", "llama", context=128)
    stub = Stub(path)
    thread = threading.Thread(target=stub.serve_forever, daemon=True)
    thread.start()
    loaded = load(path, dtype="fp32")
    renderer = Renderer.of(loaded)
    url = f"http://127.0.0.1:{stub.server_address[1]}/"
    yield (
        VLLM(url, loaded.tokenizer, loaded.stops, renderer.prompt, lambda at: save(loaded, at), tmp_path / "pushed"),
        stub,
        loaded,
    )
    stub.shutdown()
    stub.server_close()


def ask(n: int = 2, **sampling: Any) -> Request:
    return Request(
        as_chat("What is 2 + 2?"), Sampling(**{"max_tokens": 6, **sampling}), n=n, seed=3, facts={"answer": "4"}
    )


def test_answers_keep_tokens_logps_and_order(served: tuple[VLLM, Stub, Any]) -> None:
    model, _, loaded = served
    mine = Sampler(loaded.model, loaded.tokenizer, loaded.stops, Renderer.of(loaded).prompt, threads=1)
    theirs, ours = model.generate([ask(), ask(1)]), mine.generate([ask(), ask(1)])
    for a, b in zip(theirs, ours, strict=True):
        assert a.facts == b.facts and np.array_equal(a.prompt_tokens, b.prompt_tokens)
        for x, y in zip(a.responses, b.responses, strict=True):
            assert np.array_equal(x.tokens, y.tokens) and (x.text, x.stop) == (y.text, y.stop)
            assert np.allclose(x.logps, y.logps) and x.trained.all()
    events = list(model.stream([ask()]))
    assert [e.tokens for e in events] == [tuple(r.tokens.tolist()) for r in ours[0].responses]


def test_weights_are_pushed_after_a_step(served: tuple[VLLM, Stub, Any], tmp_path: Path) -> None:
    """Paused, read, the prefix cache forgotten, resumed: in this order; then the server answers from the new weights."""
    model, stub, loaded = served
    with torch.no_grad():
        for p in loaded.model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    model.sync(loaded.model, 7)
    assert stub.calls == ["/pause?mode=wait", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    (made,) = model.generate([ask(temperature=0.0)])
    fresh = Sampler(loaded.model, loaded.tokenizer, loaded.stops, Renderer.of(loaded).prompt, threads=1)
    (want,) = fresh.generate([ask(temperature=0.0)])
    assert np.array_equal(made.responses[0].tokens, want.responses[0].tokens)
    assert np.allclose(made.responses[0].logps, want.responses[0].logps, atol=1e-5)
    assert made.responses[0].version == 7
    model.sync()
    assert [p.name for p in (tmp_path / "pushed").iterdir()] == ["step-8"]


def test_what_goes_wrong_is_said_in_one_line(served: tuple[VLLM, Stub, Any]) -> None:
    model, stub, _ = served
    with pytest.raises(ValueError, match="after truncation alone"):
        model.generate([ask(top_p=0.9)])
    stub.broken = {"/collective_rpc"}
    with pytest.raises(RuntimeError, match="VLLM_SERVER_DEV_MODE=1"):
        model.sync()
    assert stub.calls[-1] == "/resume"
    stub.lost_tokens = True
    with pytest.raises(RuntimeError, match="without its tokens"):
        model.generate([ask()])
    model.url = "http://127.0.0.1:9"
    with pytest.raises(RuntimeError, match="is the vLLM server up"):
        model.generate([ask()])


def test_a_recipe_learns_from_the_server_and_pushes_every_step(served: tuple[VLLM, Stub, Any], tmp_path: Path) -> None:
    _, stub, loaded = served
    asked = tmp_path / "asked.jsonl"
    asked.write_text(
        "".join(json.dumps({"prompt": f"{i} + 1?", "answer": "2"}) + "\n" for i in range(4)), encoding="utf-8"
    )
    node: dict[str, Any] = {
        "method": "rloo",
        "model": str(loaded.path),
        "data": str(asked),
        "reward": {"name": "length", "limit": 3},
        "steps": 2,
        "batch": 2,
        "dtype": "fp32",
        "threads": 1,
        "preflight": "off",
        "log_to": [],
        "samples": 0,
        "out": str(tmp_path / "run"),
    }
    url = f"http://127.0.0.1:{stub.server_address[1]}"
    rollout = {"n": 2, "max_new_tokens": 4, "vllm": url, "pushed": str(tmp_path / "weights")}
    build_job({**node, "rollout": rollout}).run(Context(bars=False))
    assert stub.calls.count("/collective_rpc") >= 3, "before the first step, and after each of two"
    ended = load_file(tmp_path / "run" / "model" / "model.safetensors")
    pushed = load_file(next((tmp_path / "weights").glob("step-*")) / "model.safetensors")
    assert all(torch.equal(ended[k], pushed[k]) for k in ended)
    with pytest.raises(ValueError, match="name a directory that the vLLM server sees"):
        build_job({**node, "out": str(tmp_path / "n"), "rollout": {"vllm": url, "max_new_tokens": 4}}).run(
            Context(bars=False)
        )
