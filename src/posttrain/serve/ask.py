# ruff: noqa: SIM905 (a line of words reads better than a list of quotes)
"""A request body as we understand it: known fields checked by type and range, unknown ones named, text made harmless.

Structural misuse raises `Misuse`, which becomes a 400 with the field's name. No text can: lone surrogates become U+FFFD, contents made of
parts are joined, empty messages stay, and any order of roles is taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from posttrain.core.chat import Chat, Message
from posttrain.core.protocols import Sampling

MOST_ANSWERS = 128
MOST_TOKENS = 1 << 20


class Misuse(ValueError):
    """The request is malformed. param: the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Ask:
    """What is asked: chats to answer (several only for completions), how, and what the reply shall hold."""

    chats: tuple[Chat, ...]
    sampling: Sampling
    n: int = 1
    seed: int | None = None
    stream: bool = False
    usage: bool = False
    logprobs: bool = False
    top: int = 0
    bias: Mapping[int, float] = field(default_factory=dict)
    frequency: float = 0.0
    presence: float = 0.0
    guard: Mapping[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


KNOWN = frozenset(
    "model messages prompt n temperature top_p frequency_penalty presence_penalty max_tokens max_completion_tokens stop seed stream "
    "stream_options logprobs top_logprobs logit_bias user posttrain".split()
)


def body_of(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Misuse."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Misuse(f"the body is not JSON in UTF-8: {str(error)[:120]}") from None
    if not isinstance(value, dict):
        raise Misuse(f"the body must be a JSON object, not {_kind(value)}")
    return value


def read_ask(body: Mapping[str, Any], chat: bool) -> Ask:
    """The request of `/v1/chat/completions` (chat) or `/v1/completions`. Raises Misuse."""
    _text(body, "model")
    _text(body, "user")
    chats = (_messages(body),) if chat else _prompts(body)
    options = _object(body, "stream_options")
    top, logprobs = _wants_logprobs(body, chat)
    cap = _whole(body, "max_completion_tokens", None, 1, MOST_TOKENS)
    cap = cap if cap is not None else _whole(body, "max_tokens", None, 1, MOST_TOKENS)
    top_p = _number(body, "top_p", 1.0, 0.0, 1.0)
    sampling = Sampling(
        temperature=_number(body, "temperature", 1.0, 0.0, 1e6),
        top_p=max(top_p, 1e-6),
        max_tokens=cap or 256,
        stop=_stops(body),
    )
    return Ask(
        chats=chats,
        sampling=sampling,
        n=_whole(body, "n", 1, 1, MOST_ANSWERS) or 1,
        seed=_whole(body, "seed", None, -(2**63), 2**64),
        stream=_flag(body, "stream"),
        usage=_flag(options, "include_usage", "stream_options.include_usage"),
        logprobs=logprobs,
        top=top,
        bias=_bias(body),
        frequency=_number(body, "frequency_penalty", 0.0, -100.0, 100.0),
        presence=_number(body, "presence_penalty", 0.0, -100.0, 100.0),
        guard=_object(body, "posttrain"),
        unknown=tuple(sorted(clean(k)[:64] for k in set(body) - KNOWN)),
    )


def clean(text: str) -> str:
    """Text that can be encoded: lone surrogates become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), "something else")


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Misuse(f"{name} must be a string, not {_kind(value)}", name)
    return value


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise Misuse(f"{name} must be an object, not {_kind(value)}", name)
    return value or {}


def _flag(body: Mapping[str, Any], name: str, shown: str | None = None) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise Misuse(f"{shown or name} must be true or false, not {_kind(value)}", name)
    return bool(value)


def _number(body: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Misuse(f"{name} must be a number, not {_kind(value)}", name)
    if not low <= value <= high or math.isnan(value):
        raise Misuse(f"{name} must lie in [{low:g}, {high:g}]", name)
    return float(value)


def _whole(body: Mapping[str, Any], name: str, default: int | None, low: int, high: int) -> int | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Misuse(f"{name} must be a whole number, not {_kind(value)}", name)
    if not low <= value <= high:
        raise Misuse(f"{name} must lie in [{low}, {high}]", name)
    return value


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    value = body.get("stop")
    found = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(s, str) for s in found):
        raise Misuse("stop must be null, a string or a list of strings", "stop")
    return tuple(clean(s) for s in found if s)


def _bias(body: Mapping[str, Any]) -> dict[int, float]:
    out: dict[int, float] = {}
    for key, value in _object(body, "logit_bias").items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not key.isascii() or not key.isdigit() or len(key) > 9 or not number:
            raise Misuse("logit_bias maps token ids, written as strings, to numbers", "logit_bias")
        if not -100 <= value <= 100:
            raise Misuse("a logit_bias must lie in [-100, 100]", "logit_bias")
        out[int(key)] = float(value)
    return out


def _wants_logprobs(body: Mapping[str, Any], chat: bool) -> tuple[int, bool]:
    if chat:
        return _whole(body, "top_logprobs", 0, 0, 20) or 0, _flag(body, "logprobs")
    top = _whole(body, "logprobs", None, 0, 20)
    return top or 0, top is not None


def _messages(body: Mapping[str, Any]) -> Chat:
    value = body.get("messages")
    if not isinstance(value, list) or not value:
        raise Misuse("messages must be a list with at least one message", "messages")
    return tuple(_message(m, i) for i, m in enumerate(value))


def _message(value: Any, i: int) -> Message:
    where = f"messages[{i}]"
    if not isinstance(value, dict):
        raise Misuse(f"{where} must be an object, not {_kind(value)}", where)
    role = value.get("role")
    if not isinstance(role, str):
        raise Misuse(f"{where}.role must be a string", f"{where}.role")
    known = {"system": "system", "developer": "system", "assistant": "assistant", "tool": "tool", "function": "tool"}
    return Message(known.get(role, "user"), _content(value.get("content"), where))


def _content(value: Any, where: str) -> str:
    """A string, null, or a list of parts: texts are joined, anything else leaves a note."""
    if value is None:
        return ""
    if isinstance(value, str):
        return clean(value)
    if not isinstance(value, list):
        raise Misuse(f"{where}.content must be a string or a list of parts", f"{where}.content")
    out = []
    for part in value:
        if isinstance(part, str):
            out.append(clean(part))
        elif not isinstance(part, dict):
            raise Misuse(f"{where}.content: a part must be an object", f"{where}.content")
        elif isinstance(part.get("text"), str):
            out.append(clean(part["text"]))
        else:
            kind = part.get("type")
            out.append(f"[{clean(kind)[:32] if isinstance(kind, str) else 'part'} left out]")
    return "\n".join(out)


def _prompts(body: Mapping[str, Any]) -> tuple[Chat, ...]:
    """The prompts of a completion as documents; lists of token ids are kept as text by the caller's tokenizer."""
    value = body.get("prompt")
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(p, str) for p in value):
        raise Misuse("prompt must be a string or a list of strings", "prompt")
    if len(value) > MOST_ANSWERS:
        raise Misuse(f"prompt may hold at most {MOST_ANSWERS} texts", "prompt")
    return tuple((Message("document", clean(p)),) for p in value)
