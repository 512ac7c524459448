"""Replies in the OpenAI form: completions, chunks of a stream, errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posttrain.core.protocols import Event
from posttrain.serve.engine import FAULT, FILTERED
from posttrain.serve.wishes import Wishes

TokenText = Callable[[int], str]
REASONS = {"cancelled": "length", FAULT: FILTERED}
"""Our stop reasons that the interface calls otherwise."""


@dataclass
class Answer:
    """One choice as it grows."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    stop: str | None = None

    def take(self, event: Event) -> None:
        self.text += event.text
        self.tokens += event.tokens
        self.logps += event.logps
        self.stop = event.stop if event.stop is not None else self.stop

    @property
    def reason(self) -> str | None:
        return None if self.stop is None else REASONS.get(self.stop, self.stop)


@dataclass
class Reply:
    """All choices of one request, and how to write them. cut: prompt tokens left out. steers: one per prompt, for alternatives."""

    id: str
    created: int
    model: str
    chat: bool
    n: int
    prompts: int
    prompt_tokens: int
    cut: int
    logprobs: bool
    text_of: TokenText
    steers: Sequence[Wishes | None]
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers = [Answer() for _ in range(self.n * self.prompts)]

    def usage(self) -> dict[str, int]:
        made = sum(len(a.tokens) for a in self.answers)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": made,
            "total_tokens": self.prompt_tokens + made,
            "posttrain_truncated": self.cut,
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _tops(self, index: int) -> Sequence[list[tuple[int, float]]]:
        steer = self.steers[index // self.n]
        answers = [] if steer is None else steer.answers[-self.n :]
        return answers[index % self.n].tops if index % self.n < len(answers) else []

    def _logprobs(self, index: int, start: int = 0) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        answer = self.answers[index]
        rows = list(zip(answer.tokens, answer.logps, strict=False))
        tops = self._tops(index)
        if self.chat:
            return {
                "content": [
                    {
                        **_token(self.text_of, t, p),
                        "top_logprobs": [_token(self.text_of, *x) for x in tops[i]] if i < len(tops) else [],
                    }
                    for i, (t, p) in enumerate(rows)
                ][start:],
                "refusal": None,
            }
        texts = [self.text_of(t) for t, _ in rows]
        return {
            "tokens": texts[start:],
            "token_logprobs": [_finite(p) for _, p in rows][start:],
            "top_logprobs": [
                {self.text_of(t): _finite(p) for t, p in tops[i]} if i < len(tops) else {} for i in range(len(rows))
            ][start:],
            "text_offset": [sum(map(len, texts[:i])) for i in range(len(rows))][start:],
        }

    def whole(self, guard_log: str) -> dict[str, Any]:
        """The body of a reply that is not streamed."""
        choices = []
        for i, answer in enumerate(self.answers):
            said: dict[str, Any] = (
                {"message": {"role": "assistant", "content": answer.text, "refusal": None}}
                if self.chat
                else {"text": answer.text}
            )
            choices.append(
                {"index": i, **said, "logprobs": self._logprobs(i), "finish_reason": answer.reason or "length"}
            )
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._head(kind), "choices": choices, "usage": self.usage(), "posttrain": {"guard_log": guard_log}}

    def chunk(self, index: int, event: Event, first: bool) -> dict[str, Any] | None:
        """One chunk of a stream, or None where the event says nothing yet."""
        answer = self.answers[index]
        start = len(answer.tokens)
        answer.take(event)
        if not event.text and event.stop is None and not first and not (self.logprobs and event.tokens):
            return None
        said: dict[str, Any]
        if self.chat:
            said = {"delta": {**({"role": "assistant"} if first else {}), "content": event.text}}
        else:
            said = {"text": event.text}
        choice = {"index": index, **said, "logprobs": self._logprobs(index, start), "finish_reason": answer.reason}
        return {**self._head("chat.completion.chunk" if self.chat else "text_completion"), "choices": [choice]}

    def last(self) -> dict[str, Any]:
        """The chunk that holds the usage."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self._head(kind), "choices": [], "usage": self.usage()}


def _finite(p: float) -> float:
    return max(p, -9999.0)


def _token(text_of: TokenText, token: int, logp: float) -> dict[str, Any]:
    text = text_of(token)
    return {"token": text, "logprob": _finite(logp), "bytes": list(text.encode("utf-8"))}


def line(value: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


def error(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The OpenAI error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
