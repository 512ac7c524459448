"""Requests as the JSON of chat completions, and replies back; every way a reply can be wrong has its kind.

refused    a 4xx that will not get better: stop                 busy     408, 409, 429: try again, later and fewer
server     5xx: try again                                       timeout  no reply in time, or the line broke: try again, maybe billed
broken     not JSON, or JSON of another shape: try again, billed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from posttrain.core.chat import Chat, Message
from posttrain.core.group import Response
from posttrain.core.protocols import Request

Kind = Literal["refused", "busy", "server", "timeout", "broken"]
BILLED: frozenset[Kind] = frozenset({"timeout", "broken"})
MOST_TOKENS = 10**9
"""A count of tokens in a reply above this is none."""
VERSION = 1
"""Version of what is sent: part of every key."""


class CallFailed(RuntimeError):
    """A call that brought no answer. kind: see the module. status: of HTTP where there is one."""

    def __init__(self, kind: Kind, message: str, status: int | None = None, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.kind, self.status, self.retry_after = kind, status, retry_after


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer and what it used."""

    body: dict[str, Any]
    tokens_in: int | None
    tokens_out: int | None


def messages(prompt: Chat) -> list[dict[str, Any]]:
    """A chat as the wire has it."""
    out = []
    for m in prompt:
        row: dict[str, Any] = {"role": "user" if m.role == "document" else m.role, "content": m.content}
        if m.tool_calls:
            row["tool_calls"] = [
                {"id": f"call_{i}", "type": "function",
                 "function": {"name": c["name"], "arguments": json.dumps(c.get("arguments", {}), ensure_ascii=False)}}
                for i, c in enumerate(m.tool_calls)
            ]  # fmt: skip
        if m.name is not None:
            row["name"] = m.name
        out.append(row)
    return out


def call(request: Request, index: int, model: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the call for answer `index` of a request. Fields at their neutral value are left out."""
    s = request.sampling
    body: dict[str, Any] = {"model": model, "messages": messages(request.prompt), "max_tokens": s.max_tokens,
                            "temperature": s.temperature}  # fmt: skip
    if s.top_p < 1:
        body["top_p"] = s.top_p
    if s.top_k:
        body["top_k"] = s.top_k
    if s.min_p:
        body["min_p"] = s.min_p
    if s.repetition_penalty != 1:
        body["repetition_penalty"] = s.repetition_penalty
    if s.min_tokens:
        body["min_tokens"] = s.min_tokens
    if s.stop:
        body["stop"] = list(s.stop)
    if request.tools:
        body["tools"] = [t if "function" in t else {"type": "function", "function": dict(t)} for t in request.tools]
    body["seed"] = seed_of(request.seed, index)
    return {**body, **extra}


def seed_of(seed: int, index: int) -> int:
    """A seed per answer: that of the request for the first one, as servers take 31 bits."""
    if index == 0:
        return seed % (1 << 31)
    return int.from_bytes(hashlib.blake2b(f"{seed}:{index}".encode(), digest_size=4).digest(), "little") >> 1


def key_of(body: Mapping[str, Any], **where: Any) -> str:
    """SHA-256 of canonical JSON of what is sent and where: equal calls share it."""
    text = json.dumps({"body": body, "version": VERSION, **where}, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def failure(status: int, text: str, retry_after: str | None) -> CallFailed | None:
    """What an HTTP status means; None for success. text: what the server said, shortened."""
    if status < 300:
        return None
    said = " ".join(text.split())[:200]
    if status in (408, 409, 425, 429):
        return CallFailed("busy", f"the server is busy (HTTP {status}): {said}", status, retry_after)
    if status >= 500:
        return CallFailed("server", f"the server failed (HTTP {status}): {said}", status, retry_after)
    remedy = {401: "; check the key", 403: "; check the key", 404: "; check the address and the model's name"}
    return CallFailed("refused", f"the server refused (HTTP {status}): {said}{remedy.get(status, '')}", status)


def read_reply(text: str) -> Reply:
    """A completion's JSON. Raises CallFailed("broken") for anything else."""
    try:
        body = json.loads(text)
        choice = body["choices"][0]
        said = choice["message"]
        content = said.get("content") or ""
        if not isinstance(content, str):
            raise TypeError("content is not text")
        kept = {
            "text": content,
            "stop": {"stop": "stop", "length": "length"}.get(choice.get("finish_reason"), choice.get("finish_reason")),
            "thinking": said.get("reasoning_content") or said.get("reasoning"),
            "calls": [_tool(c) for c in said.get("tool_calls") or ()],
            "model": body.get("model"),
        }
        usage = body.get("usage") or {}
        used = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise CallFailed("broken", f"the reply is not a chat completion ({type(error).__name__}: {error})") from None
    counts = (u if isinstance(u, int) and 0 <= u < MOST_TOKENS else None for u in used)
    return Reply({k: writable(v) for k, v in kept.items() if v}, *counts)


def writable(value: Any) -> Any:
    """The value with lone surrogates, which no file can hold, replaced."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, Mapping):
        return {writable(k): writable(v) for k, v in value.items()}
    return [writable(v) for v in value] if isinstance(value, list) else value


def _tool(call: Mapping[str, Any]) -> dict[str, Any]:
    told = call["function"]
    raw = told.get("arguments") or "{}"
    try:
        arguments = json.loads(raw)
    except (json.JSONDecodeError, TypeError):
        arguments = {"unparsed": raw}
    return {"name": told["name"], "arguments": arguments}


def response(body: Mapping[str, Any], by: str) -> Response:
    """A kept answer as a Response."""
    turn = Message(
        "assistant", body.get("text", ""), tool_calls=tuple(body.get("calls", ())), thinking=body.get("thinking")
    )
    return Response(turns=(turn,), stop=body.get("stop"), by=by)
