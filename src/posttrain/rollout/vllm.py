"""Answers of a vLLM server in place of our own decoder, its weights renewed after every step; the same `Model` for rollouts.

    VLLM_SERVER_DEV_MODE=1 vllm serve runs/sft/model --logprobs-mode processed_logprobs --host 127.0.0.1
    sampler = VLLM("http://127.0.0.1:8000", tokenizer, stop_ids, encode, write, "runs/grpo/pushed")

Prompts go as token ids to `/v1/completions` and answers come back as token ids with log-probabilities, so nothing is tokenised twice.
`sync` writes the weights as a model directory that the server can read (the same machine, or a shared disk) and has it pause, reload,
forget its prefix cache and resume: `/pause`, `/collective_rpc` with `reload_weights`, `/reset_prefix_cache`, `/resume`, which vLLM serves
in development mode alone (docs.vllm.ai, weight updates and its development endpoints; read in November 2026). The server must report
log-probabilities at the sampling temperature (`processed_logprobs`); where it does not, the preflight's ratio check says so.

Written against the documentation and tested with a stub; NEVER RUN AGAINST A REAL vLLM. Leaves out colocation in one process, transfer
over NCCL or CUDA IPC, adapters alone, steering, and bits: another engine rounds otherwise than the trainer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np

from posttrain.core.chat import as_chat, assistant
from posttrain.core.group import Group, Response
from posttrain.core.protocols import Event, Request
from posttrain.rollout.jobs import check
from posttrain.rollout.sampler import Encode

PATIENCE = 600.0
"""Seconds that a call may take: a step's longest answer, or reading all weights."""


class VLLM:
    """A `Model` over a vLLM server.

    url: where it serves, without /v1. write: (directory) -> writes the policy's weights there, whole. weights: directory for them, which
    the server must see under the same path. name: what it calls its model (None: asked of the server). most: requests sent at once.
    """

    def __init__(
        self,
        url: str,
        tokenizer: Any,
        stop_ids: Iterable[int],
        encode: Encode,
        write: Callable[[Path], Any],
        weights: str | Path,
        name: str | None = None,
        most: int = 64,
        key: str | None = None,
    ) -> None:
        self.url, self.tokenizer, self.encode, self.write = url.rstrip("/"), tokenizer, encode, write
        self.stop_ids = frozenset(int(i) for i in stop_ids)
        self.weights, self.most, self.version, self._name = Path(weights), most, 0, name
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.http = httpx.Client(timeout=PATIENCE, headers=headers)

    # Weights

    def sync(self, model: Any = None, version: int | None = None) -> None:
        """Push the policy's weights as they are now. Raises RuntimeError where the server does not take them."""
        self.version = self.version + 1 if version is None else version
        at = self.weights.absolute() / f"step-{self.version}"
        self.write(at)
        self._post("/pause", params={"mode": "wait"})
        try:
            self._post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(at)}})
            self._post("/reset_prefix_cache")  # keys and values of the old weights
        finally:
            self._post("/resume")
        for old in self.weights.absolute().glob("step-*"):
            if old != at:
                shutil.rmtree(old)

    # Answers

    def generate(self, requests: Sequence[Request]) -> list[Group]:
        """One Group per request, in order. Raises ValueError for what the server cannot be asked, RuntimeError where it fails."""
        asked = [(r, self._checked(r, i)) for i, r in enumerate(requests)]
        with ThreadPoolExecutor(max_workers=self.most) as pool:
            return list(pool.map(lambda one: self._group(*one), asked))

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Event]:
        """Every answer as one event, when it is whole."""
        for number, request in enumerate(r for r in requests if r is not None):
            (group,) = self.generate([request])
            for index, r in enumerate(group.responses):
                assert r.tokens is not None and r.logps is not None, "made by _response"
                tokens, logps = tuple(int(t) for t in r.tokens), tuple(float(v) for v in r.logps)
                yield Event(request.id or str(number), index, r.text, tokens, logps, logps, r.stop)

    def _checked(self, request: Request, number: int) -> list[int]:
        """The prompt's ids. Log-probabilities after truncation are not the policy's own, so truncation is refused."""
        name = request.id or str(number)
        check(request.sampling, name)
        if request.sampling.truncates:
            raise ValueError(
                f"request {name}: a vLLM server tells log-probs after truncation alone; leave top_p, top_k, min_p, min_tokens "
                "and repetition_penalty off, or use the built-in sampler"
            )
        if request.steer is not None:
            raise ValueError(f"request {name}: steering needs the built-in sampler")
        return [int(i) for i in self.encode(as_chat(request.prompt), request.tools)]

    def _group(self, request: Request, ids: list[int]) -> Group:
        s = request.sampling
        body = {
            "model": self.name,
            "prompt": ids,
            "n": request.n,
            "seed": request.seed % 2**31,
            "temperature": s.temperature,
            "max_tokens": s.max_tokens,
            "stop": list(s.stop),
            "stop_token_ids": sorted(self.stop_ids),
            "logprobs": 0,
            "return_token_ids": True,
        }
        told = self._post("/v1/completions", body)
        choices = sorted(told.get("choices", ()), key=lambda c: c["index"])
        if len(choices) != request.n:
            raise RuntimeError(f"{self.url}: {len(choices)} answers to a request for {request.n}")
        responses = tuple(self._response(c, ids) for c in choices)
        prompt = np.array(ids, dtype=np.int64)
        return Group(as_chat(request.prompt), responses, facts=request.facts, prompt_tokens=prompt, tools=request.tools)

    def _response(self, choice: dict[str, Any], ids: list[int]) -> Response:
        tokens, logps = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if tokens is None or logps is None or len(tokens) != len(logps):
            raise RuntimeError(
                f"{self.url}: an answer without its tokens and their log-probs; vLLM 0.11 or later gives both"
            )
        if choice.get("prompt_token_ids") not in (None, ids):
            raise RuntimeError(f"{self.url}: the server answered another prompt than it was asked")
        text = choice["text"]
        if tokens and tokens[-1] in self.stop_ids and choice.get("stop_reason") is None:
            text = self.tokenizer.decode(tokens[:-1], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        at = np.array(logps, dtype=np.float32)
        return Response(
            turns=(assistant(text),),
            tokens=np.array(tokens, dtype=np.int64),
            trained=np.ones(len(tokens), dtype=np.int8),
            logps=at,
            sampled_logps=at,
            stop="length" if choice.get("finish_reason") == "length" else "stop",
            version=self.version,
        )

    @property
    def name(self) -> str:
        """What the server calls its model."""
        if self._name is None:
            self._name = str(self._read(self.http.get, "/v1/models")["data"][0]["id"])
        return self._name

    def _post(
        self, path: str, body: dict[str, Any] | None = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return self._read(self.http.post, path, json=body, params=params)

    def _read(self, call: Callable[..., httpx.Response], path: str, **given: Any) -> dict[str, Any]:
        hint = " (weights need VLLM_SERVER_DEV_MODE=1)" if not path.startswith("/v1") else ""
        try:
            reply = call(f"{self.url}{path}", **{k: v for k, v in given.items() if v is not None})
        except httpx.HTTPError as error:
            raise RuntimeError(
                f"{self.url}{path}: no reply ({type(error).__name__}); is the vLLM server up?"
            ) from error
        if reply.status_code != 200:
            raise RuntimeError(f"{self.url}{path}: status {reply.status_code}{hint}: {reply.text[:200]}")
        try:
            told = reply.json() if reply.content else {}
        except ValueError as error:
            raise RuntimeError(f"{self.url}{path}: the reply is no JSON") from error
        return told if isinstance(told, dict) else {}
